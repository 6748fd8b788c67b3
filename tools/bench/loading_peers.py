"""Other libraries' ways to an epoch of samples, for the group `loading`.

Each `make` function prepares its files outside the measured time, and returns what brings an epoch's batches.
"""

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from stages.lib.workers import count
from tools.bench.timing import Work

BATCH = 64
Means = Tensor  # (N,) of an epoch's samples
Epoch = Callable[[], Iterable[Tensor]]  # batches (n, C, H, W), float32, normalised, mirrored at random


class Pictures(NamedTuple):
    """What all of them load."""

    x: Tensor  # (N, C, H, W) uint8
    y: Tensor  # (N,) int64
    mean: list[float]  # per channel, of the grey values
    deviation: list[float]
    folder: Path  # for files

    def augmented(self, x: Tensor) -> Tensor:
        """A batch (n, C, H, W) of any dtype, normalised, and each sample mirrored with probability 1/2."""
        mean, deviation = (torch.tensor(of).view(1, -1, 1, 1) for of in (self.mean, self.deviation))
        x = x.float().sub_(mean).div_(deviation)
        return torch.where(torch.rand(len(x), 1, 1, 1) < 0.5, x.flip(-1), x)

    def transform(self) -> Callable[[Image.Image], Tensor]:
        """The same for a single picture, as torchvision has it."""
        from torchvision.transforms import v2

        mean, deviation = ([value / 255 for value in of] for of in (self.mean, self.deviation))
        as_floats = [v2.ToImage(), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]
        return v2.Compose([*as_floats, v2.Normalize(mean, deviation)])


class Peer(NamedTuple):
    name: str
    package: str
    make: Callable[[Pictures], Epoch]
    why: str


def means(batches: Iterable[Tensor]) -> Means:
    """The mean of every sample, by which epochs are compared; it reads every pixel."""
    return torch.cat([x.mean((1, 2, 3)) for x in batches])


def works(pictures: Pictures) -> list[Work]:
    """Every peer; those that are not installed have nothing to run."""
    return [Work(peer.name, _epoch(peer, pictures), peer.why) for peer in PEERS]


def _epoch(peer: Peer, pictures: Pictures) -> Callable[[], Means] | None:
    if not find_spec(peer.package):
        return None
    epoch = peer.make(pictures)
    return lambda: means(epoch())


def gather(pictures: Pictures) -> Epoch:
    def epoch() -> Iterator[Tensor]:
        for rows in torch.randperm(len(pictures.x)).split(BATCH):
            yield pictures.augmented(pictures.x[rows])

    return epoch


def tensor_dataset(pictures: Pictures) -> Epoch:
    loader = DataLoader(TensorDataset(pictures.x, pictures.y), BATCH, shuffle=True)
    return lambda: (pictures.augmented(x) for x, _ in loader)


def image_folder(pictures: Pictures) -> Epoch:
    from torchvision.datasets import ImageFolder

    folder = pictures.folder / "images"
    for i, content in enumerate(png_files(pictures)):
        path = folder / f"class{int(pictures.y[i])}" / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    loader = in_workers(ImageFolder(folder, pictures.transform()), shuffle=True)
    return lambda: (x for x, _ in loader)


def png_files(pictures: Pictures) -> Iterator[bytes]:
    for x in pictures.x.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(x).save(file, "png")
        yield file.getvalue()


def in_workers(dataset: Any, shuffle: bool = False) -> DataLoader:
    """A DataLoader with a worker per core, which stay from one epoch to the next."""
    return DataLoader(dataset, BATCH, shuffle, num_workers=count(0), persistent_workers=True)


def monai_cache(pictures: Pictures) -> Epoch:
    from monai.data import CacheDataset
    from monai.data import DataLoader as MonaiLoader
    from monai.transforms import Compose, NormalizeIntensity, RandFlip

    # Deterministic transforms come first: their results are what is cached.
    normalise = NormalizeIntensity(pictures.mean, pictures.deviation, channel_wise=True)
    transform = Compose([normalise, RandFlip(0.5, spatial_axis=1)])
    # Copies: what is cached is copied for each sample, with all that its memory is a view of.
    cached = CacheDataset([x.clone() for x in pictures.x.float()], transform, progress=False)
    loader = MonaiLoader(cached, batch_size=BATCH, shuffle=True)
    return lambda: (x.as_tensor() for x in loader)


def web_dataset(pictures: Pictures) -> Epoch:
    import webdataset

    shards = count(0)  # one per worker, as a shard is read by one
    files = list(png_files(pictures))
    paths = [pictures.folder / f"{shard}.tar" for shard in range(shards)]
    for shard, path in enumerate(paths):
        with tarfile.open(path, "w") as tar:
            for i in range(shard, len(files), shards):
                about = tarfile.TarInfo(f"{i:06d}.png")
                about.size = len(files[i])
                tar.addfile(about, io.BytesIO(files[i]))
    dataset = webdataset.WebDataset([str(path) for path in paths], shardshuffle=shards)
    decoded = dataset.shuffle(1000).decode("pil").to_tuple("png").map_tuple(pictures.transform())
    return partial(_first_of_each, in_workers(decoded))


def _first_of_each(loader: DataLoader) -> Iterator[Tensor]:
    for (x,) in loader:
        yield x


def hugging_face(pictures: Pictures) -> Epoch:
    from datasets import Array3D, Dataset, Features

    features = Features({"x": Array3D(tuple(pictures.x.shape[1:]), "uint8")})
    whole = Dataset.from_dict({"x": np.asarray(pictures.x)}, features).with_format("torch")

    def epoch() -> Iterator[Tensor]:
        for batch in whole.shuffle().iter(BATCH):
            yield pictures.augmented(batch["x"])

    return epoch


IN_MEMORY = "It holds all samples in memory, and draws random numbers for a batch at once rather than for each case."
IN_FILES = "It decodes in all cores beside the training process."
PEERS = [
    Peer("torch, gather of a tensor", "torch", gather, IN_MEMORY),
    Peer("DataLoader over TensorDataset", "torch", tensor_dataset, IN_MEMORY),
    Peer("torchvision ImageFolder, DataLoader", "torchvision", image_folder, IN_FILES),
    Peer("MONAI CacheDataset", "monai", monai_cache, f"{IN_MEMORY} What it holds is normalised already."),
    Peer("webdataset", "webdataset", web_dataset, IN_FILES),
    Peer("Hugging Face datasets", "datasets", hugging_face, IN_MEMORY),
]
