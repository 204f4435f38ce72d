#!/usr/bin/env bash
# Builds the image without a Docker engine and uses it as a stranger would: with a uid that the
# image has never heard of and a mounted folder. Prints a PASS line per check; exits 0 if all passed.
#
#   docker/verify.sh
#
# Needs root and buildah; debootstrap too, unless a base is given. Everything is built below a
# temporary folder and removed at the end. pip's settings on this machine (index, certificate,
# time-out, proxy) hold for the build and stay out of the image. From the environment:
#
#   BASE      image to build on, which buildah pulls; otherwise Debian 12 is put together
#   BASE_TAR  Debian 12 as a tar file: used if it is there, else made and kept
#   LOCK      lock to install (docker/requirements-cpu.lock)
#   WHEELS    folder of wheels for pip, say with torch's CPU wheel
#   OWNER     uid:gid that uses the image (54321:54322)
#   STORAGE_DRIVER  how buildah keeps layers (vfs: works anywhere; overlay is faster)
#   TMPDIR    where the temporary folder is made (/tmp); the CPU image takes 6 GB with vfs
set -euo pipefail

cd "$(dirname "$0")/.."
lock=${LOCK:-docker/requirements-cpu.lock}
owner=${OWNER:-54321:54322}
driver=${STORAGE_DRIVER:-vfs}
work=$(mktemp -d "${TMPDIR:-/tmp}/unetseg-verify.XXXXXX")
export BUILDAH_ISOLATION=chroot TMPDIR="$work/tmp"
mkdir "$work/tmp" "$work/data" "$work/pip"

stores() {
    buildah --root "$work/storage" --runroot "$work/run" --storage-driver "$driver" "$@"
}
pass() { echo "PASS $*"; }
fail() {
    echo "FAIL $*" >&2
    exit 1
}

clean() {
    stores rm --all >"$work/clean.log" 2>&1 || cat "$work/clean.log" >&2
    # Never across a mount: one that was left behind leads to somebody's files.
    rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

# 1. The base, as the official Python images are: Debian 12 with Python 3.11.
if [ -z "${BASE:-}" ]; then
    tar=${BASE_TAR:-$work/base.tar}
    if [ ! -e "$tar" ]; then
        debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
            bookworm "$work/debian" >"$work/debootstrap.log" || fail "debootstrap"
        tar -C "$work/debian" --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
            -cf "$tar.part" .
        mv "$tar.part" "$tar"
        rm -rf --one-file-system "$work/debian"
    fi
    container=$(stores from scratch)
    tar -C "$(stores mount "$container")" -xf "$tar"
    stores umount "$container" >"$work/tmp/umount.log"
    stores commit --quiet --rm "$container" debian-python >"$work/tmp/commit.log"
    BASE=localhost/debian-python
    pass "base"
fi

# 2. The image. Folders and files that pip's settings name are not there in the build.
python3 -m pip config list | python3 -c '
import ast, shutil, sys
settings = {}
for line in sorted(sys.stdin, key=lambda line: line.startswith(":env:")):
    name, _, value = line.partition("=")
    settings[name.rpartition(".")[2]] = ast.literal_eval(value.strip())
kept = {key: settings[key] for key in ("index-url", "timeout", "proxy") if key in settings}
urls = settings.get("extra-index-url", "").split()
kept["extra-index-url"] = " ".join(url for url in urls if not url.startswith("file:"))
if "cert" in settings:
    shutil.copy(settings["cert"], sys.argv[1] + "/cert.pem")
    kept["cert"] = "/run/pip/cert.pem"
if sys.argv[2]:
    kept["find-links"] = "/run/wheels"
print("[global]", *(f"{key} = {value}" for key, value in kept.items() if value), sep="\n")
' "$work/pip" "${WHEELS:-}" >"$work/pip/pip.conf"
mounts=(--volume "$work/pip:/run/pip:ro" --volume "$work/pip/pip.conf:/etc/pip.conf:ro")
[ -z "${WHEELS:-}" ] || mounts+=(--volume "$WHEELS:/run/wheels:ro")
stores build --quiet "${mounts[@]}" --build-arg BASE="$BASE" --build-arg LOCK="$lock" \
    --tag unetseg-verify . >"$work/build.log" 2>&1 || {
    cat "$work/build.log" >&2
    fail "build"
}
pass "build from $lock"

# 3. What the image says of itself, and what must not be in it.
setting() { stores inspect --type image --format "{{.OCIv1.Config.$1}}" unetseg-verify; }
[ "$(setting Entrypoint)" = "[unetseg]" ] || fail "entry point: $(setting Entrypoint)"
[ "$(setting WorkingDir)" = /data ] || fail "working folder: $(setting WorkingDir)"
case $(setting User) in "" | 0 | 0:* | root*) fail "user: $(setting User)" ;; esac
container=$(stores from unetseg-verify)
root=$(stores mount "$container")
[ -z "$(ls -A "$root/data")" ] || fail "/data of the image is not empty"
# What the libraries bring for tests of their own is theirs.
found=$(find "$root" -xdev -path '*/site-packages/*' ! -path '*/site-packages/unetseg*' -prune \
    -o \( -name '*.safetensors' -o -name '*.pt' -o -name '*.onnx' -o -name '*.nii*' \) -print)
[ -z "$found" ] || fail "weights or scans in the image: $found"
[ ! -s "$root/etc/pip.conf" ] || fail "pip's settings are in the image"
stores umount "$container" >"$work/tmp/umount.log"
pass "settings: user $(setting User), entry point, no weights, no data"

# 4. Use, by a uid without a name or a home.
chown "$owner" "$work/data"
inside() { stores run --user "$owner" --volume "$work/data:/data" "$container" -- "$@"; }
# shellcheck disable=SC2016  # $HOME and $XDG_CACHE_HOME are the container's
inside sh -c '[ "$(id -u):$(id -g)" = "$1" ] && : >"$HOME/x" && mkdir -p "$XDG_CACHE_HOME/x"' \
    sh "$owner" || fail "uid $owner without a writable home and cache"
inside python -c 'import getpass; getpass.getuser()' || fail "a user name"
pass "uid $owner has a home, a cache and a name"

inside unetseg --help >"$work/help.txt" || fail "unetseg --help"
grep -q predict "$work/help.txt" || fail "unetseg --help does not name predict"
pass "unetseg --help"

inside unetseg sample /data/sample || fail "unetseg sample"
scan=$(find "$work/data/sample/mr/test/images" -name '*.nii.gz' | sort | head -n 1)
[ -n "$scan" ] || fail "no scan below sample/mr/test/images"
scan=/data${scan#"$work/data"}
pass "unetseg sample"

inside unetseg train /data/sample/mr/train -o /data/run --epochs 1 --device cpu || fail "unetseg train"
pass "unetseg train"

inside unetseg predict "$scan" -o /data/out --model /data/run || fail "unetseg predict"
mask=$(find "$work/data/out" -name '*.nii.gz')
[ -s "$mask" ] || fail "one mask expected, found: '$mask'"
pass "unetseg predict"

inside python -c '
import sys
import nibabel as nib
import numpy as np
scan, mask = (nib.load(path) for path in sys.argv[1:])
same = scan.shape == mask.shape and np.allclose(scan.affine, mask.affine, atol=1e-4)
sys.exit(not same)
' "$scan" "/data${mask#"$work/data"}" || fail "the mask does not lie on the scan"
pass "the mask lies on the scan"

[ "$(stat -c %u:%g "$mask")" = "$owner" ] || fail "the mask belongs to $(stat -c %u:%g "$mask")"
strange=$(find "$work/data" ! -uid "${owner%:*}" -o ! -gid "${owner#*:}")
[ -z "$strange" ] || fail "not of $owner: $strange"
pass "all that was written belongs to $owner"
