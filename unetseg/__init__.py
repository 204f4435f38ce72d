"""unetseg: a folder of images and masks in, a trained U-Net out; a scan in, a mask out.

    from unetseg import train, cross_validate, predict, evaluate, measure, Predictor

The names are loaded at first use: importing the package loads neither torch nor MONAI.
"""

from typing import TYPE_CHECKING, Any

from unetseg.version import __version__

if TYPE_CHECKING:
    from unetseg.api import cross_validate, evaluate, measure, predict, train
    from unetseg.prediction import Predictor

__all__ = [
    "Predictor",
    "__version__",
    "cross_validate",
    "evaluate",
    "measure",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "Predictor":
        from unetseg.prediction import Predictor

        return Predictor
    if name in ("train", "cross_validate", "predict", "evaluate", "measure"):
        from unetseg import api

        return getattr(api, name)
    raise AttributeError(f"module 'unetseg' has no attribute {name!r}")
