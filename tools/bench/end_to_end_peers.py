"""Other libraries' scripts from a folder of pictures to a checked ONNX file, for the group `end_to_end`.

    python -m tools.bench.end_to_end_peers timm pictures/ out/ '{"epochs": 8, ...}'

Each trains with its own library's means; what follows, ONNX and the comparison, is the same for all.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from stages.lib.core import terminal

MEAN, DEVIATION = 0.5, 0.25  # of pixels from 0 to 1
WORKERS = 2  # processes that decode

Batches = Iterable[tuple[Tensor, Tensor]]  # (n, 3, H, W) float32 and (n,) int64


class Task(NamedTuple):
    """What all peers do."""

    pictures: Path  # has train, val and test, each with a folder per class
    folder: Path  # for what is written
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float
    seed: int
    threads: int  # of torch; 0 leaves it as it is
    tolerance: float  # of probabilities

    @property
    def classes(self) -> int:
        return len(list((self.pictures / "train").iterdir()))


class Trained(NamedTuple):
    network: nn.Module
    test: Batches
    onnx: Path | None = None  # where the library has its own export
    probabilities: bool = False  # the network gives them, and not logits


@terminal.program()
def main(arguments: list[str]) -> None:
    name, pictures, folder, about = arguments
    task = Task(Path(pictures), Path(folder), **json.loads(about))
    if task.threads:
        torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    trained = TRAIN[name](task)
    with torch.inference_mode():
        accuracy, difference = checked(trained, trained.onnx or export(trained, task.folder / "model.onnx"))
    if difference > task.tolerance:
        sys.exit(f"the ONNX file's probabilities are {difference:.2g} from the network's")
    (task.folder / "result.json").write_text(json.dumps({"accuracy": accuracy, "difference": difference}))


def export(trained: Trained, path: Path) -> Path:
    """Writes the network for batches of any size."""
    x, _ = next(iter(trained.test))
    batch = torch.export.Dim("batch")
    trained.network.eval()
    torch.onnx.export(trained.network, (x[:2],), path, dynamo=True, dynamic_shapes=({0: batch},), verbose=False)
    return path


def checked(trained: Trained, path: Path) -> tuple[float, float]:
    """The accuracy of an ONNX file on the test pictures, and how far its probabilities are from the network's."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    network = trained.network.eval()
    correct, total, largest = 0, 0, 0.0
    for x, y in trained.test:
        answers = [torch.from_numpy(np.asarray(session.run(None, {given.name: x.numpy()})[0])), plain(network(x))]
        ours, theirs = answers if trained.probabilities else [one.softmax(1) for one in answers]
        largest = max(largest, float((ours - theirs).abs().max()))
        correct += int((ours.argmax(1) == y).sum())
        total += len(y)
    return correct / total, largest


def plain(output: Any) -> Tensor:
    """The first of several outputs."""
    return output[0] if isinstance(output, tuple | list) else output


def network(task: Task) -> nn.Module:
    from torchvision.models import resnet18

    return resnet18(num_classes=task.classes)


def optimizer(model: nn.Module, task: Task) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), task.lr, weight_decay=task.weight_decay)


def fit(model: nn.Module, train: Batches, validation: Batches, steps: int, task: Task) -> None:
    """A plain loop: steps of each epoch, then the validation accuracy."""
    moved = optimizer(model, task)
    schedule = OneCycleLR(moved, task.lr, total_steps=steps * task.epochs)
    for _ in range(task.epochs):
        model.train()
        for x, y in train:
            moved.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            moved.step()
            schedule.step()
        model.eval()
        with torch.no_grad():
            np.mean([float((model(x).argmax(1) == y).float().mean()) for x, y in validation])


def loaders(task: Task) -> list[Any]:
    """torchvision's way to batches of train, val and test."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([MEAN] * 3, [DEVIATION] * 3)]
    found = []
    for part in ("train", "val", "test"):
        training = part == "train"
        transform = v2.Compose([*([v2.RandomHorizontalFlip()] if training else []), *to_tensor])
        pictures = ImageFolder(task.pictures / part, transform)
        workers: dict[str, Any] = {"num_workers": WORKERS, "persistent_workers": True} if part != "test" else {}
        found.append(DataLoader(pictures, task.batch_size, training, **workers))
    return found


def by_hand(task: Task) -> Trained:
    train, validation, test = loaders(task)
    model = network(task)
    fit(model, train, validation, len(train), task)
    return Trained(model, test)


def by_lightning(task: Task) -> Trained:
    import lightning

    train, validation, test = loaders(task)

    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network(task)

        def forward(self, x: Tensor) -> Tensor:
            return self.model(x)

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            return functional.cross_entropy(self(batch[0]), batch[1])

        def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
            self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

        def configure_optimizers(self) -> Any:
            moved = optimizer(self, task)
            schedule = OneCycleLR(moved, task.lr, total_steps=len(train) * task.epochs)
            return {"optimizer": moved, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    lightning.seed_everything(task.seed, verbose=False)
    classifier = Classifier()
    trainer = lightning.Trainer(
        max_epochs=task.epochs, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=task.folder,
    )  # fmt: skip
    trainer.fit(classifier, train, validation)
    return Trained(classifier.model, test)


def by_timm(task: Task) -> Trained:
    import timm
    from timm.data import ImageDataset, create_loader
    from timm.optim import create_optimizer_v2
    from timm.scheduler import create_scheduler_v2

    dataset = {part: ImageDataset(str(task.pictures / part)) for part in ("train", "val", "test")}
    size = (3, *dataset["train"][0][0].size[::-1])
    loader = partial(
        create_loader, input_size=size, batch_size=task.batch_size, use_prefetcher=False, num_workers=WORKERS,
        mean=[MEAN] * 3, std=[DEVIATION] * 3, crop_pct=1.0,
    )  # fmt: skip
    as_they_are = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), "color_jitter": None, "hflip": 0.5}
    train = loader(dataset["train"], is_training=True, **as_they_are)
    validation, test = loader(dataset["val"]), loader(dataset["test"])
    model = timm.create_model("resnet18", num_classes=task.classes)
    moved = create_optimizer_v2(model, "adamw", task.lr, task.weight_decay)
    schedule, epochs = create_scheduler_v2(
        moved, "cosine", task.epochs, warmup_epochs=1, warmup_lr=task.lr / 25, warmup_prefix=False,
        updates_per_epoch=len(train), step_on_epochs=False,
    )  # fmt: skip
    updates = 0
    for _ in range(task.epochs):
        model.train()
        for x, y in train:
            moved.zero_grad()
            functional.cross_entropy(model(x), y).backward()
            moved.step()
            updates += 1
            schedule.step_update(updates)
        model.eval()
        with torch.no_grad():
            np.mean([float((model(x).argmax(1) == y).float().mean()) for x, y in validation])
    return Trained(model, test)


def by_monai(task: Task) -> Trained:
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import Compose, LoadImaged, RandFlipd, ScaleIntensityRanged
    from monai.utils import set_determinism

    set_determinism(task.seed)
    names = sorted(path.name for path in (task.pictures / "train").iterdir())
    low, high = -MEAN / DEVIATION, (1 - MEAN) / DEVIATION
    found = []
    for part in ("train", "val", "test"):
        training = part == "train"
        cases = [
            {"image": str(path), "label": label}
            for label, name in enumerate(names)
            for path in sorted((task.pictures / part / name).iterdir())
        ]
        steps: list[Any] = [
            LoadImaged("image", reader="PILReader", image_only=True, ensure_channel_first=True),
            ScaleIntensityRanged("image", 0, 255, low, high),
        ]
        mirror = [RandFlipd("image", 0.5, spatial_axis=0)] if training else []  # its reader puts W first
        cached = CacheDataset(cases, Compose([*steps, *mirror]), progress=False, num_workers=WORKERS)
        found.append(DataLoader(cached, batch_size=task.batch_size, shuffle=training))

    class Pairs(NamedTuple):
        loader: Any

        def __iter__(self) -> Any:
            return ((batch["image"].as_tensor(), batch["label"]) for batch in self.loader)

    train, validation, test = (Pairs(loader) for loader in found)
    model = network(task)
    fit(model, train, validation, len(found[0]), task)
    return Trained(model, test)


def by_fastai(task: Task) -> Trained:
    from fastai.vision.all import (
        CrossEntropyLossFlat,
        FlipItem,
        ImageDataLoaders,
        Learner,
        Normalize,
        accuracy,
        get_image_files,
        set_seed,
    )

    set_seed(task.seed)
    stats = Normalize.from_stats([MEAN] * 3, [DEVIATION] * 3, cuda=False)
    data = ImageDataLoaders.from_folder(
        task.pictures, train="train", valid="val", bs=task.batch_size, item_tfms=[FlipItem()], batch_tfms=[stats],
        num_workers=WORKERS, device="cpu",
    )  # fmt: skip
    model = network(task)
    learner = Learner(
        data, model, CrossEntropyLossFlat(), wd=task.weight_decay, metrics=accuracy, path=task.folder
    )  # Adam with decoupled decay is its own
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(task.epochs, task.lr)
    test = data.test_dl(sorted(get_image_files(task.pictures / "test")), with_labels=True)
    batches = [(x.as_subclass(Tensor), y.as_subclass(Tensor)) for x, y in test]
    return Trained(model, batches)


def by_ultralytics(task: Task) -> Trained:
    os.environ |= {"YOLO_CONFIG_DIR": str(task.folder), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from ultralytics import YOLO
    from ultralytics.data.augment import classify_transforms

    described = task.folder / "resnet18-cls.yaml"  # its own wrapper of torchvision's network, without its weights
    layers = {"backbone": [[-1, 1, "TorchVision", [512, "resnet18", None, True, 2]]]}
    layers["head"] = [[-1, 1, "Classify", ["nc"]]]
    described.write_text(json.dumps({"nc": task.classes} | layers))
    side = ImageFolder(task.pictures / "test")[0][0].size[0]
    model = YOLO(described, task="classify", verbose=False)
    model.train(
        data=str(task.pictures), imgsz=side, epochs=task.epochs, batch=task.batch_size, nbs=task.batch_size,
        optimizer="AdamW", lr0=task.lr, weight_decay=task.weight_decay, cos_lr=True, warmup_epochs=1, workers=WORKERS,
        device="cpu", seed=task.seed, project=str(task.folder), amp=False, plots=False, verbose=False,
        scale=0.0, fliplr=0.5, erasing=0.0, hsv_h=0.0, hsv_s=0.0, hsv_v=0.0, auto_augment="",
    )  # fmt: skip
    path = Path(model.export(format="onnx", imgsz=side, dynamic=True, simplify=False, device="cpu"))
    test = DataLoader(ImageFolder(task.pictures / "test", classify_transforms(side)), task.batch_size)
    return Trained(model.model.float(), test, path, probabilities=True)


TRAIN: dict[str, Callable[[Task], Trained]] = {
    "plain": by_hand,
    "lightning": by_lightning,
    "timm": by_timm,
    "monai": by_monai,
    "fastai": by_fastai,
    "ultralytics": by_ultralytics,
}

if __name__ == "__main__":
    main(sys.argv[1:])
