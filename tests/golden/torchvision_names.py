"""Write torchvision_names.json: the tensors of torchvision's ResNets and DenseNets, by name.

Needs torchvision, which is no dependency of the project; run it in an environment of its own as

    python tests/golden/torchvision_names.py

Per network one line "name shape" for each tensor, without the head (fc, classifier). The counters
of the normalisations (num_batches_tracked) are left out: every batch norm has one, of no shape.
Nothing is allocated, and no weights are fetched.
"""

import json
from pathlib import Path

import torch
import torchvision

NETWORKS = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
)
HEADS = ("fc.", "classifier.")


def lines(name):
    with torch.device("meta"):
        state = getattr(torchvision.models, name)(weights=None).state_dict()
    return [
        f"{key} {'x'.join(map(str, value.shape))}"
        for key, value in state.items()
        if not key.startswith(HEADS) and not key.endswith(".num_batches_tracked")
    ]


def main():
    found = {
        "torchvision": torchvision.__version__,
        "networks": {name: lines(name) for name in NETWORKS},
    }
    text = json.dumps(found, indent=0) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
