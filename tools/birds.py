"""The recipe of the notes: CIFAR-10's birds and airplanes -> data/raw/birds, a folder of PNG files a class.

    python -m tools.birds                          # downloads CIFAR-10 through torchvision (170 MB)
    python -m tools.birds --images cifar10.zip     # or takes class folders of images, zipped or not

Then add recipes/birds.yaml to params.yaml and run `dvc repro export@birds`.
"""

import argparse
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from stages.lib.core import outs, terminal
from stages.lib.core.errors import UserError

CLASSES = ("airplane", "bird")


@terminal.program()
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.birds", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--images", type=Path, help="a folder or zip file with a folder of images a class")
    parser.add_argument("--classes", nargs="+", default=CLASSES, help="which classes to take")
    parser.add_argument("--to", type=Path, default=Path("data/raw/birds"))
    given = parser.parse_args()
    with outs.replacing(given.to) as folder, tempfile.TemporaryDirectory() as scratch:
        count = (
            copy(given.images, given.classes, folder, Path(scratch))
            if given.images
            else download(given.classes, folder, Path(scratch))
        )
    print(f"{given.to}: {count} images of {', '.join(given.classes)}; recipes/birds.yaml says how to go on")


def copy(images: Path, classes: Sequence[str], folder: Path, scratch: Path) -> int:
    """Copies the classes' folders, wherever below `images` they lie; the number of files.

    Raises:
        UserError: There is no such path, or no folder of a class in it.
    """
    if not images.exists():
        raise UserError(f"{images} not found")
    if images.is_file():
        with zipfile.ZipFile(images) as packed:
            wanted = [name for name in packed.namelist() if set(Path(name).parts[:-1]) & set(classes)]
            packed.extractall(scratch, wanted)
        images = scratch
    for name in classes:
        found = sorted(path for path in images.rglob(name) if path.is_dir())
        if not found:
            raise UserError(f"{images} has no folder '{name}'")
        shutil.copytree(found[0], folder / name)
    return sum(path.is_file() for path in folder.rglob("*"))


def download(classes: Sequence[str], folder: Path, scratch: Path) -> int:
    """Writes the images of both of CIFAR-10's parts as PNG files.

    Raises:
        UserError: There is no connection, or CIFAR-10 has no such class.
    """
    from torchvision.datasets import CIFAR10

    count = 0
    for train in (True, False):
        try:
            part = CIFAR10(scratch, train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise UserError(f"CIFAR-10 can't be downloaded ({error}): give its images with --images") from None
        for name in classes:
            if name not in part.class_to_idx:
                raise UserError(f"CIFAR-10 has no class '{name}': known are {', '.join(part.classes)}")
            (folder / name).mkdir(parents=True, exist_ok=True)
        for picture, label in part:
            if part.classes[label] in classes:
                picture.save(folder / part.classes[label] / f"{count:05d}.png")
                count += 1
    return count


if __name__ == "__main__":
    main()
