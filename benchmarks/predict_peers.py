"""What predict.py measures of nnU-Net (2.8) and MONAI: each function in a process of its own.

The interpreter may be that of another environment, which needs nnunetv2 beside what unetseg needs:
the networks that both run are unetseg's. nnU-Net prints what it does to stdout; see apart.py.
"""

import argparse
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from apart import Row, Stages
from predict_work import Watch, device_facts, on_grid
from torch import Tensor, nn

from unetseg import checkpoint
from unetseg.config import Plan
from unetseg.devices import autocast, find_device


class First(nn.Module):
    """A U-Net as the peers take it: the finest outputs alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]


def shared(model: str, device: str, *, placed: bool) -> tuple[First, Plan, torch.device]:
    """The network of a model folder.

    placed : with channels last where unetseg has them; a peer leaves a network as it is
    """
    trained, where = checkpoint.load(Path(model)), find_device(device)
    network = trained.network.placed(where) if placed else trained.network.to(where)
    return First(network).eval(), trained.plan, where


def monai_windows(
    stages: Stages, model: str, image: str, device: str, labels: str, *, placed: bool
) -> Row:
    """MONAI's sliding_window_inference with the same windows and weights, and the argmax."""
    from monai.inferers.utils import sliding_window_inference

    network, plan, where = shared(model, device, placed=placed)
    prepared = on_grid(image, plan)

    def work() -> Tensor:
        with torch.inference_mode(), autocast(where, precision_of(where, plan)):
            outputs: Any = sliding_window_inference(
                prepared.image[None].to(where),
                plan.patch.size,
                plan.patch.batch,
                network,
                overlap=plan.decode.overlap,
                mode="gaussian",
            )
            return outputs[0].argmax(0).cpu()

    return timed(stages, network, where, work, labels)


def precision_of(device: torch.device, plan: Plan) -> str:
    """MONAI leaves it to the caller, who takes half precision on a card."""
    return plan.training.precision if device.type == "cuda" else "float32"


def timed(
    stages: Stages, network: nn.Module, device: torch.device, work: Callable[[], Any], labels: str
) -> Row:
    """The seconds of the work, on a card the second time; its class numbers in a file."""
    if device.type == "cuda":
        work()
    watch = Watch(network, device)
    with stages.of("windows"):
        found = work()
    np.save(labels, np.asarray(found).astype(np.uint8))
    return watch.facts | device_facts(device)


def nnunet_predictor(network: nn.Module, plan: Plan, outputs: int, device: torch.device) -> Any:
    """nnUNetPredictor with a network of ours, and plans that say no more than it needs."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    predictor = nnUNetPredictor(
        tile_step_size=1 - plan.decode.overlap,
        use_mirroring=False,
        device=device,
        allow_tqdm=False,
    )
    plans = PlansManager(plans_of(plan))
    names = {"background": 0, **{f"class_{n}": n for n in range(1, outputs)}}
    predictor.manual_initialization(
        network,
        plans,
        plans.get_configuration("3d_fullres"),
        [network.state_dict()],
        {"labels": names, "channel_names": {"0": "0"}, "file_ending": ".nii.gz"},
        "nnUNetTrainer",
        None,
    )
    return predictor


def plans_of(plan: Plan) -> dict[str, Any]:
    """As nnU-Net's planner writes them by default for volumes of equal edges."""
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "architecture": {"network_class_name": "none"},
        "patch_size": list(plan.patch.size),
        "spacing": list(plan.data.spacing),
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
    }
    return {
        "dataset_name": "Dataset000_none",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "image_reader_writer": "SimpleITKIO",
        "configurations": {"3d_fullres": configuration},
    }


def nnunet_windows(
    stages: Stages, model: str, image: str, device: str, labels: str, *, placed: bool
) -> Row:
    """nnUNetPredictor with the same windows and weights, without mirroring, and the argmax."""
    network, plan, where = shared(model, device, placed=placed)
    predictor = nnunet_predictor(network, plan, len(plan.data.class_values), where)
    prepared = on_grid(image, plan)

    def work() -> Any:
        outputs = predictor.predict_logits_from_preprocessed_data(prepared.image)
        return predictor.label_manager.convert_logits_to_segmentation(outputs)

    return timed(stages, network, where, work, labels)


def nnunet_export(
    stages: Stages, model: str, outputs: str, scan: Sequence[int], labels: str
) -> Row:
    """nnU-Net's export: outputs on the model's grid, float16 as it holds them, to labels."""
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as convert,
    )

    plan = checkpoint.load_plan(Path(model))
    count = len(plan.data.class_values)
    predictor = nnunet_predictor(nn.Identity(), plan, count, torch.device("cpu"))
    grid = np.load(Path(outputs).with_suffix(".npy")).tolist()
    values = np.fromfile(outputs, np.float16, count * prod(grid)).reshape(count, *grid)
    edges = [e * g / n for e, g, n in zip(plan.data.spacing, grid, scan, strict=True)]
    properties = {
        "spacing": edges,
        "shape_before_cropping": list(scan),
        "shape_after_cropping_and_before_resampling": list(scan),
        "bbox_used_for_cropping": [[0, n] for n in scan],
    }
    with stages.of("export"):
        found = convert(
            torch.from_numpy(values),
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.label_manager,
            properties,
        )
    np.save(labels, found)
    return {}


def nnunet_train(stages: Stages, folder: str, minutes: float, device: str) -> Row:
    """A training as peer.py has it; the folder of the model."""
    import peer

    place = Path(folder)
    peer.set_places(place)
    given = argparse.Namespace(minutes=minutes, seed=0, device=device)
    with stages.of("train"):
        configuration = peer.configuration_for(peer.convert(place))
        facts = peer.train(place, configuration, given)
    return {**facts, "model": str(peer.model_folder(place, configuration))}


def nnunet_folder(stages: Stages, model: str, images: str, output: str, device: str) -> Row:
    """nnUNetv2_predict with its defaults (mirroring, half a window) on one fold's network."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    paths = sorted(Path(images).iterdir())
    Path(output).mkdir(parents=True, exist_ok=True)
    with stages.of("predict"):
        predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(model, (0,))
        ending = predictor.dataset_json["file_ending"]
        predictor.predict_from_files(
            [[str(path)] for path in paths],
            [str(Path(output) / path.name.removesuffix(ending)) for path in paths],
            # As many as its command starts.
            num_processes_preprocessing=3,
            num_processes_segmentation_export=3,
        )
    for path in Path(output).glob("*.json"):
        path.unlink()
    return {"files": len(paths)}
