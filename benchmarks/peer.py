"""nnU-Net on the cases that `accuracy.split` has divided, its schedule shortened to a time.

    python benchmarks/peer.py FOLDER [--minutes 10] [--seed 0] [--device cpu]

Called by train.py, for release 2.8 of nnunetv2. FOLDER holds train.csv and images/; the masks of
the images are written to peer/masks/ in it. Within the time, which begins after the imports, lie
nnU-Net's fingerprint, planning, preprocessing and its training of fold 0: everything as by default,
but that the learning rate falls along its polynomial with the time instead of epochs, and that it
does not validate on the way. Not within the time lie the conversion to its layout, and the
prediction, which mirrors as by default. For volumes in single NIfTI files and 2-D images of one
channel. Prints one line of JSON.
"""

import argparse
import json
import os
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from unetseg.config import DataPlan
from unetseg.dataset import find_cases
from unetseg.dataset.loading import load_scan, load_truth, with_channels
from unetseg.pipeline import class_indices
from unetseg.records import Case
from unetseg.training import Request, plan_for

DATASET = "Dataset001_peer"
# Kept for the last checkpoint.
RESERVE_SECONDS = 2.0


def write_image(case: Case, data: DataPlan, folder: Path) -> None:
    """The case's image under nnU-Net's name; volumes are linked, pictures written as grey PNG."""
    (image,) = case.images
    if data.dimensions == 3:
        (folder / f"{case.name}_0000.nii.gz").symlink_to(image.resolve())
        return
    from PIL import Image

    array = with_channels(load_scan(case), data.channels).array
    if array.dtype != np.uint8 or len(array) != 1:
        raise SystemExit(f"{image}: the peer is written for images of 8 bits and one channel")
    Image.fromarray(array[0]).save(folder / f"{case.name}_0000.png")


def write_truth(case: Case, data: DataPlan, folder: Path) -> None:
    """The case's class indices under nnU-Net's name."""
    truth = load_truth(case, load_scan(case).geometry)
    indices = class_indices(truth.array, data).numpy().astype(np.uint8)
    if data.dimensions == 3:
        import nibabel as nib

        affine = nib.load(case.truth).affine
        nib.save(nib.Nifti1Image(indices, affine), folder / f"{case.name}.nii.gz")
    else:
        from PIL import Image

        Image.fromarray(indices).save(folder / f"{case.name}.png")


def set_places(folder: Path) -> None:
    """Tell nnU-Net where its folders are, before it is imported."""
    names = ("raw", "preprocessed", "results")
    os.environ |= {f"nnUNet_{name}": str(folder / "peer" / name) for name in names}
    os.environ |= {"nnUNet_n_proc_DA": str(os.cpu_count() or 1)}


def configuration_for(data: DataPlan) -> str:
    return "3d_fullres" if data.dimensions == 3 else "2d"


def convert(folder: Path) -> DataPlan:
    """Write peer/raw with nnU-Net's layout; what unetseg's plan says of the data."""
    plan, found = plan_for(Request(folder / "train.csv", folder / "none", device="cpu"))
    data = plan.data
    if data.class_values != tuple(range(len(data.class_values))):
        raise SystemExit(f"the peer needs values from 0 on, got {data.class_values}")
    raw = folder / "peer" / "raw" / DATASET
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / name).mkdir(parents=True)
    for case in found.cases:
        write_image(case, data, raw / "imagesTr")
        write_truth(case, data, raw / "labelsTr")
    for case in find_cases(folder / "images").cases:
        write_image(case, data, raw / "imagesTs")
    description = {
        "channel_names": {str(i): name for i, name in enumerate(data.channels)},
        "labels": {name: index for index, name in enumerate(data.class_names)},
        "numTraining": len(found.cases),
        # A reader of its own that needs no further package.
        **({"overwrite_image_reader_writer": "NibabelIO"} if data.dimensions == 3 else {}),
        "file_ending": ".nii.gz" if data.dimensions == 3 else ".png",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    return data


def train(folder: Path, configuration: str, given: argparse.Namespace) -> dict[str, float]:
    """Plan, preprocess and train within the time; where the model lies, and how it went."""
    import torch
    from nnunetv2.experiment_planning import plan_and_preprocess_api as preparing
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    begun, cores = time.time(), os.cpu_count() or 1
    torch.set_num_threads(1 if given.device == "cuda" else cores)
    torch.manual_seed(given.seed)
    np.random.seed(given.seed)  # noqa: NPY002 - nnU-Net draws from the global state
    preparing.extract_fingerprints([1], num_processes=cores, show_progress_bar=False)
    plans = preparing.plan_experiments([1])
    preparing.preprocess([1], plans, (configuration,), (cores,), show_progress_bar=False)
    prepared = time.time() - begun
    place = folder / "peer" / "preprocessed" / DATASET
    content = {
        name: json.loads((place / f"{name}.json").read_text()) for name in (plans, "dataset")
    }
    trainer = nnUNetTrainer(
        plans=content[plans] | {"continue_training": False},
        configuration=configuration,
        fold=0,
        dataset_json=content["dataset"],
        device=torch.device(given.device),
    )
    trainer.on_train_start()
    trainer.network.train()
    steps, budget = 0, 60 * given.minutes - RESERVE_SECONDS
    stepping = half = time.time()
    before = 0
    while (share := (time.time() - begun) / budget) < 1:
        for group in trainer.optimizer.param_groups:
            group["lr"] = trainer.initial_lr * (1 - share) ** 0.9
        trainer.train_step(next(trainer.dataloader_train))
        steps += 1
        if share < (1 + prepared / budget) / 2:
            half, before = time.time(), steps
    stepped = time.time() - stepping
    trainer.on_train_end()
    return {
        "steps": steps,
        "steps_per_second": steps / max(stepped, 1e-9),
        # Of the second half: nothing is compiled or tried out any more.
        "steady_steps_per_second": (steps - before) / max(stepping + stepped - half, 1e-9),
        "batch": trainer.batch_size,
        "patch": list(trainer.configuration_manager.patch_size),
        "features": list(
            trainer.configuration_manager.network_arch_init_kwargs["features_per_stage"]
        ),
        "train_seconds": round(time.time() - begun, 1),
        "preparing_seconds": round(prepared, 1),
    }


def model_folder(folder: Path, configuration: str) -> Path:
    """Where the trainer leaves the model."""
    models = folder / "peer" / "results" / DATASET
    return models / f"nnUNetTrainer__nnUNetPlans__{configuration}"


def predict(folder: Path, configuration: str, device: str) -> float:
    """Masks of imagesTs by the final checkpoint, as by default; the seconds."""
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    begun = time.time()
    predictor = nnUNetPredictor(device=torch.device(device), allow_tqdm=False)
    model = model_folder(folder, configuration)
    predictor.initialize_from_trained_model_folder(str(model), (0,))
    images = folder / "peer" / "raw" / DATASET / "imagesTs"
    (folder / "peer" / "masks").mkdir()
    predictor.predict_from_files(
        str(images),
        str(folder / "peer" / "masks"),
        num_processes_preprocessing=1,
        num_processes_segmentation_export=1,
    )
    for path in (folder / "peer" / "masks").glob("*.json"):
        path.unlink()
    return time.time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    folder = given.folder.resolve()
    set_places(folder)
    # Its words are many, and stdout is for the result.
    with redirect_stdout(sys.stderr):
        data = convert(folder)
        configuration = configuration_for(data)
        result = train(folder, configuration, given)
        result["predict_seconds"] = round(predict(folder, configuration, given.device), 1)
    print(json.dumps(result | {"merge_labels": data.merge_labels}))


if __name__ == "__main__":
    main()
