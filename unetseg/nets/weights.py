"""Weights from elsewhere: a file of tensors, and how they fit into an encoder.

Names of torchvision and timm are understood, because the encoders bear them too. What does not
fit as it is gets adapted where that keeps the meaning: fewer or more channels, a third axis
(Carreira & Zisserman 2017, arXiv:1705.07750).
"""

import pickle
import re
import struct
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unetseg.errors import ModelError

# What other programs wrap around a state dict, and around its names.
_CONTAINERS = ("state_dict", "model")
_PREFIXES = ("module.", "encoder.", "backbone.", "model.")
_CLASSIFIER = re.compile(r"(fc|classifier|head)\.")
_COUNTER = "num_batches_tracked"
_STATISTICS = ("running_mean", "running_var")
# DenseNets saved before torch 1.0 have names like norm.1 where they have norm1 today.
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d+)\.")
# What torch's readers raise for a file that is not theirs, or not whole.
_UNREADABLE = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    pickle.UnpicklingError,
)


@dataclass(frozen=True)
class Loading:
    """What became of every tensor of a file and of every tensor of a network.

    loaded : names of those that were copied as they are
    adapted, left_out, fresh : (name, how or why); left out of the file's, fresh in the network

    Names are the network's, but for those left out.
    """

    loaded: tuple[str, ...]
    adapted: tuple[tuple[str, str], ...]
    left_out: tuple[tuple[str, str], ...]
    fresh: tuple[tuple[str, str], ...]

    def summary(self) -> str:
        """One sentence with numbers."""
        parts = [f"{len(self.loaded)} tensors loaded as they are"]
        for fate, tensors in (
            ("adapted", self.adapted),
            ("left out", self.left_out),
            ("fresh", self.fresh),
        ):
            if tensors:
                reasons = Counter(reason for _, reason in tensors).items()
                told = "; ".join(f"{count}: {reason}" for reason, count in reasons)
                parts.append(f"{len(tensors)} {fate} ({told})")
        return ", ".join(parts)

    def rows(self) -> list[dict[str, str]]:
        """Every tensor with its fate, for JSON."""
        return [{"tensor": name, "fate": "loaded"} for name in self.loaded] + [
            {"tensor": name, "fate": fate, "how": reason}
            for fate, tensors in (
                ("adapted", self.adapted),
                ("left out", self.left_out),
                ("fresh", self.fresh),
            )
            for name, reason in tensors
        ]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a .safetensors file or in a .pth file, on the processor.

    A .pth file holds a state dict, or one under the key `state_dict` or `model`; nothing in it
    is ever run.

    Raises ModelError if the file cannot be read, needs more than tensors, or holds none.
    """
    try:
        # safetensors does not say why a file cannot be opened.
        with path.open("rb"):
            is_safe = path.suffix.lower() == ".safetensors"
        content = load_file(path) if is_safe else _unpacked(path)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
    tensors = {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise ModelError(
            "there are no tensors in this file",
            where=path,
            expected="a state dict, or one under 'state_dict' or 'model'",
        )
    return tensors


def _unpacked(path: Path) -> Mapping[object, object]:
    try:
        with warnings.catch_warnings():
            # Whatever torch thinks of a file's age, it is read or refused.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "Unsupported global" not in text and "Unsupported class" not in text:
            raise _unreadable(path, error) from error
        named = re.search(r"(?:GLOBAL|class) ([\w.]+)", text)
        raise ModelError(
            "a pickle that would run code: it holds more than tensors",
            where=path,
            expected="a state dict of tensors",
            got=named[1] if named else "",
            hint="save model.state_dict() with torch.save or safetensors where you trust the file",
        ) from error
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    if not isinstance(content, Mapping):
        raise ModelError(
            "not a state dict", where=path, expected="tensors by name", got=type(content).__name__
        )
    for key in _CONTAINERS:
        if isinstance(inner := content.get(key), Mapping):
            return inner
    return content


def _unreadable(path: Path, error: Exception) -> ModelError:
    # torch's own sentences advise to run the file's code; a system's sentence is worth telling.
    reason = error.strerror if isinstance(error, OSError) and error.strerror else ""
    return ModelError(
        f"weights cannot be read{f': {reason}' if reason else ''}",
        where=path,
        expected="a whole .safetensors or .pth file",
    )


def fit(tensors: Mapping[str, Tensor], encoder: nn.Module, *, where: object = "") -> Loading:
    """Copy the tensors that bear the names of the encoder's, adapted where they must be.

    where : the file, for messages

    A 2-D kernel is repeated along the new axis and divided by its length, so that a volume whose
    slices are alike gives what the slice gave. The first convolution takes any number of
    channels: one sees the sum of the file's kernels, more of them see these in turn, scaled so
    that the answer keeps its size.

    Raises ModelError, before anything is changed, if nothing fits, or if a tensor has the name
    but not the shape, or values that are no numbers.
    """
    state = encoder.state_dict()
    entries = first_kernels(encoder)
    values: dict[str, Tensor] = {}
    loaded, adapted, left_out = [], [], []
    for written, tensor in _bare(tensors).items():
        name = _name_in(written, state)
        if reason := _why_left_out(written, name):
            left_out.append((written, reason))
            continue
        result = fitted(tensor, state[name], is_first=name in entries)
        if result is None:
            raise unfit(name, state[name], tensor, where=where)
        values[name], how = result
        if not values[name].isfinite().all():
            raise ModelError(f"tensor {name} holds values that are no numbers", where=where)
        if how:
            adapted.append((name, how))
        else:
            loaded.append(name)
    if not values:
        raise ModelError(
            "none of the tensors in this file fits the encoder",
            where=where,
            expected=f"names such as {next(iter(state))}",
            got=next(iter(tensors), "nothing"),
            hint="choose the --encoder that the file is of; a run is given by --init",
        )
    for name, value in values.items():
        state[name].copy_(value)
    fresh = [(name, _why_fresh(name)) for name in state if name not in values]
    return Loading(tuple(loaded), tuple(adapted), tuple(left_out), tuple(fresh))


def _bare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by names of today and without what all names begin with."""
    names = {name: _OLD_DENSE.sub(r"\1\2.", name) for name in tensors}
    while prefix := next(
        (p for p in _PREFIXES if names and all(n.startswith(p) for n in names.values())), None
    ):
        names = {name: bare.removeprefix(prefix) for name, bare in names.items()}
    return {bare: tensors[name] for name, bare in names.items()}


def _name_in(written: str, state: Mapping[str, Tensor]) -> str:
    """The encoder's name of a tensor; an empty one if it has none."""
    bare = written.removeprefix("features.")
    return next((n for n in (written, f"features.{bare}", bare) if n in state), "")


def _why_left_out(written: str, name: str) -> str:
    if _CLASSIFIER.match(written):
        return "of the classifier"
    if written.endswith(_COUNTER):
        return "a counter of batches"
    if not name and written.endswith(_STATISTICS):
        return "the normalisation keeps no running statistics"
    return "" if name else "the encoder has no such tensor"


def _why_fresh(name: str) -> str:
    if name.endswith(_COUNTER):
        return "a counter of batches"
    if name.startswith("stem."):
        return "in the stem, which the published network lacks"
    return "not in the file"


def first_kernels(encoder: nn.Module) -> frozenset[str]:
    """Names of the kernels that see the image: the first one, and the first of a stem beside it."""
    kernels = [
        f"{name}.weight"
        for name, module in encoder.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Conv3d))
    ]
    in_stem = [name for name in kernels if name.startswith("stem.")]
    others = [name for name in kernels if not name.startswith("stem.")]
    return frozenset((*in_stem[:1], *others[:1]))


def unfit(
    name: str,
    mine: Tensor | None,
    theirs: Tensor | None,
    *,
    where: object,
    hint: str = "choose the --encoder that the weights are of",
) -> ModelError:
    """The failure of a tensor that has another shape, or is in one of two places only."""
    return ModelError(
        f"tensor {name} does not fit",
        where=where,
        expected=_described(mine),
        got=_described(theirs),
        hint=hint,
    )


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "no such tensor"
    kind = "" if tensor.is_floating_point() else f" {_kind(tensor)}"
    return f"{tuple(tensor.shape)}{kind}"


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def fitted(tensor: Tensor, like: Tensor, *, is_first: bool) -> tuple[Tensor, str] | None:
    """The tensor in the shape and number type of `like`, and how it came to it.

    is_first : the kernel of a first convolution, which may see another number of channels

    The second part is empty if it only had to be copied. None if it cannot be done.
    """
    if tensor.is_floating_point() != like.is_floating_point():
        return None
    steps = []
    # Sums of half precision would lose what the file has.
    value = tensor.to(like.dtype)
    if tensor.dtype != like.dtype:
        steps.append(f"{_kind(tensor)} to {_kind(like)}")
    if value.ndim == 4 and like.ndim == 5:
        axis = _new_axis(value.shape[2:], like.shape[2:])
        if axis is None:
            return None
        length = like.shape[2 + axis]
        sizes = [*value.shape[: 2 + axis], length, *value.shape[2 + axis :]]
        value = value.unsqueeze(2 + axis).expand(sizes) / length
        steps.append(f"2-D kernel repeated {length} times and divided by {length}")
    before, after = (t.shape[1] if t.ndim > 1 else 0 for t in (value, like))
    if is_first and before and before != after:
        if after == 1:
            value = value.sum(1, keepdim=True)
            steps.append(f"the sum over the file's {before} channels")
        else:
            turns = [channel % before for channel in range(after)]
            value = value[:, turns] * (before / after)
            steps.append(f"the file's {before} channels in turn, times {before}/{after}")
    return (value, "; ".join(steps)) if value.shape == like.shape else None


def _new_axis(flat: Sequence[int], deep: Sequence[int]) -> int | None:
    """The first axis of `deep` without which it is `flat`."""
    return next(
        (a for a in range(len(deep)) if [*deep[:a], *deep[a + 1 :]] == list(flat)),
        None,
    )
