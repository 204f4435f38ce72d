# The default build is for NVIDIA GPUs: torch's wheels bring the CUDA libraries, the host the driver.
#   docker build -t unetseg .
#   docker run --rm --gpus all --user "$(id -u):$(id -g)" -v "$PWD:/data" unetseg train data/
# For the CPU only; pip must be told where torch's CPU wheels are:
#   docker build --build-arg LOCK=docker/requirements-cpu.lock --build-arg PIP_EXTRA_INDEX_URL=... .
# The locks are for Python 3.11 on x86-64 Linux.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS wheel
WORKDIR /src
ARG PIP_EXTRA_INDEX_URL
COPY docker/build.lock docker/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r docker/build.lock
COPY pyproject.toml README.md LICENSE ./
COPY unetseg unetseg
RUN /opt/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist .

FROM ${BASE}
# A virtual environment, since some distributions keep pip out of their own Python.
ARG LOCK=docker/requirements.lock
ARG PIP_EXTRA_INDEX_URL
COPY ${LOCK} /opt/unetseg.lock
RUN python3 -m venv /opt/unetseg \
    && /opt/unetseg/bin/pip install --no-cache-dir --only-binary :all: --require-hashes -r /opt/unetseg.lock \
    && mkdir --mode=1777 /data
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    /opt/unetseg/bin/pip install --no-cache-dir --no-deps --no-index /dist/*.whl

# Whatever uid `--user` gives has no home and no name in /etc/passwd: /tmp is writable for all, and
# LOGNAME answers what would otherwise be looked up there. The NVIDIA names are read by the runtime.
ENV PATH=/opt/unetseg/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/.cache \
    LOGNAME=unetseg \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
WORKDIR /data
# As process 1 nothing dies of SIGTERM by default, while Python turns SIGINT into a clean end.
STOPSIGNAL SIGINT
ENTRYPOINT ["unetseg"]
CMD ["--help"]

ARG BASE
ARG VERSION=""
ARG REVISION=""
LABEL org.opencontainers.image.title="unetseg" \
      org.opencontainers.image.description="Train a U-Net on a folder of biomedical images and masks, and get masks that lie on the scan" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
