"""Published weights of encoders: where they are, how they are known, and how they get here.

The SHA-256 sums were gathered from public sources, two or more that agree for most of them; this
table was written without a connection, so none has been compared with the servers' files. A wrong
one cannot do harm: the file is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from unetseg.errors import DataError, ModelError, UsageError, nearest
from unetseg.files import replacing
from unetseg.records import Advance, Listener, Stage, ignore_event

_MEGABYTE = 10**6
_CHUNK_BYTES = 2**16
# Without a byte for this long a transfer is given up.
_PATIENCE_SECONDS = 30.0


@dataclass(frozen=True)
class Family:
    """Weights of one origin.

    dimensions : spatial axes of their kernels
    about : what they were trained on, by whom
    """

    name: str
    dimensions: int
    licence: str
    about: str


@dataclass(frozen=True)
class Published:
    """The weights of one encoder.

    sha256 : of the file, in hexadecimal; None where no full sum is known
    size_bytes : None where it is not known
    """

    family: Family
    encoder: str
    url: str
    sha256: str | None = None
    size_bytes: int | None = None

    @property
    def name(self) -> str:
        """As in imagenet/resnet34."""
        return f"{self.family.name}/{self.encoder}"

    @property
    def file(self) -> str:
        return self.url.rpartition("/")[2]


IMAGENET = Family(
    "imagenet",
    2,
    "BSD-3-Clause",
    "torchvision's classifiers of 1000 kinds of pictures; ImageNet's own terms are for research",
)
MEDICALNET = Family(
    "medicalnet",
    3,
    "MIT",
    "segmentation of 23 sets of CT and MR volumes, Chen et al. 2019, arXiv:1904.00625",
)
FAMILIES = (IMAGENET.name, MEDICALNET.name)


def _torchvision(
    encoder: str, tail: str, sha256: str | None = None, size: int | None = None
) -> Published:
    url = f"https://download.pytorch.org/models/{encoder}-{tail}.pth"
    return Published(IMAGENET, encoder, url, sha256, size)


def _medicalnet(depth: int, file: str, sha256: str) -> Published:
    folder = f"https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet{depth}/resolve/main"
    return Published(MEDICALNET, f"resnet{depth}", f"{folder}/{file}", sha256)


PUBLISHED = (
    _torchvision(
        "resnet18",
        "f37072fd",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
        46830571,
    ),
    _torchvision(
        "resnet34",
        "b627a593",
        "b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f",
        87319819,
    ),
    _torchvision(
        "resnet50",
        "11ad3fa6",
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",
        102540417,
    ),
    _torchvision(
        "resnet101",
        "63fe2227",
        "63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a",
    ),
    _torchvision(
        "resnet152",
        "394f9c45",
        "394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58",
    ),
    _torchvision(
        "densenet121",
        "a639ec97",
        "a639ec97d7c33b07ae66f0b5fb7d0192f95a3b11b7576c66c0126c2a727c4395",
        32342954,
    ),
    _torchvision(
        "densenet161",
        "8d451a50",
        "8d451a50bad6b9a83f477126c443716882a17af26e94d338154b058fb2dfd359",
        115730790,
    ),
    # Of these two only the first eight digits are public, which is too few to trust a file.
    _torchvision("densenet169", "b2777c0a"),
    _torchvision("densenet201", "c1103571"),
    _medicalnet(
        18,
        "resnet_18_23dataset.pth",
        "61224f9317fcce873366deb3703183e92cc47325b726b69691b33536244e10f4",
    ),
    _medicalnet(
        34,
        "resnet_34_23dataset.pth",
        "3ea7188e396774e4ef95b66e5e90a78273bb33f6e58d3d717bf24f5f1aaeaa28",
    ),
    _medicalnet(
        50,
        "resnet_50_23dataset.pth",
        "ff48a62219073fb977fd3f4ddfb8dc1367f0ec156c8d6f6c37e205bd683a246e",
    ),
    _medicalnet(
        101,
        "resnet_101.pth",
        "a26bbcf9b2ad35f048b0fa317234c003f171a4d719760e5c4aff9f793654ebcf",
    ),
    _medicalnet(
        152,
        "resnet_152.pth",
        "e96c459f5317ef2cbb898c91575402da2c78b31a31f55c5d28943683fe0626da",
    ),
)


def named(name: str) -> Published:
    """The weights called `family/encoder`. Raises UsageError with the nearest name."""
    known = {weights.name: weights for weights in PUBLISHED}
    if name not in known:
        raise UsageError("no such weights", got=name, hint=nearest(name, known))
    return known[name]


def published(family: str, encoder: str) -> Published:
    """The family's weights for this encoder.

    Raises UsageError that names the encoders which have some if this one has none.
    """
    encoders = {w.encoder: w for w in PUBLISHED if w.family.name == family}
    if encoder not in encoders:
        raise UsageError(
            f"there are no {family} weights for this encoder",
            where="network.encoder",
            expected=" or ".join((", ".join([*encoders][:-1]), [*encoders][-1])),
            got=encoder,
            hint=f"choose one of them, as in --encoder {next(iter(encoders))}",
        )
    return encoders[encoder]


def place(weights: Published, folder: Path | None = None) -> Path:
    """Where the file lies once it is fetched.

    folder : the user's cache folder for weights if not given
    """
    return (folder or user_cache_path("unetseg") / "weights") / weights.family.name / weights.file


def refuse_unpinned(weights: Published) -> None:
    """Raise UsageError, which says where the file is, if it could not be checked."""
    if weights.sha256 is None:
        raise UsageError(
            "these weights have no pinned SHA-256, and what cannot be checked is not fetched",
            where=weights.name,
            hint=f"if you trust {weights.url}, download it and give --weights FILE",
        )


def fetch(
    weights: Published, folder: Path | None = None, listener: Listener = ignore_event
) -> Path:
    """Download the file, unless the right one is there already; returns its path.

    folder : the user's cache folder for weights if not given

    The file appears whole and with the pinned SHA-256, or not at all. Raises UsageError if no
    sum is pinned; ModelError if there is no connection, the server refuses, the transfer breaks
    off or the sum is another one; DataError if the file cannot be written.
    """
    refuse_unpinned(weights)
    path = place(weights, folder)
    if _is_there(path, weights.sha256):
        return path
    with replacing(path) as temporary:
        _download(weights, temporary, path, listener)
        got = _sum(temporary)
        if got != weights.sha256:
            raise ModelError(
                "not the file that was published, and not kept",
                where=weights.url,
                expected=f"SHA-256 {weights.sha256}",
                got=got,
                hint="try again; if it stays like this, do not trust that server",
            )
    return path


def _sum(path: Path) -> str:
    from pooch import file_hash

    return str(file_hash(str(path), alg="sha256"))


def _is_there(path: Path, sha256: str | None) -> bool:
    """Whether the right file is there; a damaged one is removed."""
    try:
        if not path.is_file():
            return False
        if _sum(path) == sha256:
            return True
        path.unlink()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path) from error
    return False


def _download(weights: Published, temporary: Path, path: Path, listener: Listener) -> None:
    from pooch import HTTPDownloader
    from requests import exceptions

    counter = _Megabytes(f"downloading {weights.name}, MB", listener)
    answers: list[Any] = []

    def keep(answer: Any, **options: Any) -> None:
        del options
        answers.append(answer)

    load: Callable[..., None] = HTTPDownloader(
        progressbar=counter,
        chunk_size=_CHUNK_BYTES,
        timeout=_PATIENCE_SECONDS,
        # Compressed on the way its length would not be that of the file.
        headers={"Accept-Encoding": "identity"},
        # pooch leaves the connection of a transfer that broke off open.
        hooks={"response": keep},
    )
    # All of requests' errors are OSErrors, which would otherwise be taken for the disk's.
    try:
        load(weights.url, str(temporary), None)
    except exceptions.HTTPError as error:
        refusal = error.response
        raise ModelError(
            "the server does not hand out this file",
            where=weights.url,
            got=f"{refusal.status_code} {refusal.reason}",
            hint="try later, or download it elsewhere and give --weights FILE",
        ) from error
    except exceptions.SSLError as error:
        raise ModelError(
            "the server's certificate is not trusted here",
            where=weights.url,
            hint="see what stands between you and the server, or give --weights FILE",
        ) from error
    except exceptions.RequestException as error:
        if counter.has_begun:
            raise ModelError(
                "the transfer broke off",
                where=weights.url,
                got=f"{counter.done / _MEGABYTE:.1f} of {counter.total / _MEGABYTE:.1f} MB"
                if counter.total
                else "",
                hint="try again",
            ) from error
        raise ModelError(
            "no connection to the server of these weights",
            where=weights.url,
            hint=f"connect to the internet, or bring the file from elsewhere as {path}",
        ) from error
    finally:
        for answer in answers:
            answer.close()


class _Megabytes:
    """pooch's progress as events: a stage when the length is known, an advance per megabyte."""

    def __init__(self, title: str, listener: Listener) -> None:
        self.title, self.listener = title, listener
        self.has_begun = False
        self.done = self._shown = self._total = 0

    @property
    def total(self) -> int:
        """Bytes to come; 0 if the server does not say."""
        return self._total

    @total.setter
    def total(self, length: int) -> None:
        self.has_begun, self._total = True, length
        self.listener(Stage(self.title, -(-length // _MEGABYTE) or None))

    def update(self, count: int) -> None:
        # Counted in whole chunks, and once more at the end.
        self.done = min(self.done + count, self._total)
        while self._shown < -(-self.done // _MEGABYTE):
            self._shown += 1
            self.listener(Advance())

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        """Nothing is open."""
