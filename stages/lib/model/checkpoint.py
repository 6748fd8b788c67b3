"""model.pt: the weights, and what rebuilds the model around them. Read with weights_only, so no pickle runs code."""

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from stages.lib import tensors
from stages.lib.core import outs
from stages.lib.core.errors import UserError
from stages.lib.model import networks
from stages.lib.model.classifier import Classifier, Normalise
from stages.lib.tensors import Description


@dataclass(frozen=True)
class Recipe:
    """Everything that rebuilds a model except its weights; plain values only."""

    network: str
    arguments: dict[str, Any]  # the network's options
    normalise: dict[str, Any]  # Normalise's arguments
    description: dict[str, Any]  # a tensors.Description: classes, axes, shape, dtype, units, spacing, geometry, moments


def build(recipe: Recipe) -> Classifier:
    """A fresh model, its weights drawn from torch's random generator."""
    about = Description(**recipe.description)
    channels, *size = about.shape
    network = networks.build(recipe.network, channels, len(about.classes), tuple(size), recipe.arguments)
    return Classifier(Normalise(**recipe.normalise), network)


def save(path: Path, recipe: Recipe, model: Classifier) -> None:
    """Writes a checkpoint; the same weights give the same bytes under any path."""
    content = io.BytesIO()  # torch.save(path) would put the file's name into the bytes
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    torch.save({"recipe": asdict(recipe), "weights": weights}, content)
    outs.write_bytes(path, content.getvalue())


def load(path: Path, device: str = "cpu") -> tuple[Classifier, Recipe]:
    """The model in eval mode, and the recipe that it was built from.

    Raises:
        UserError: The file is missing, or is not a checkpoint of this project.
    """
    if not path.exists():
        raise UserError(f"{path} not found: run the train stage first")
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        recipe = Recipe(**content["recipe"])
        model = build(recipe)
        model.load_state_dict(content["weights"])
    except Exception as error:  # unpickling raises many types of errors
        raise UserError(f"{path} is no checkpoint of this project: {error}") from None
    return model.to(device).eval(), recipe


def load_for(dataset_h5: Path, path: Path) -> tuple[Classifier, Recipe, Description]:
    """The model in eval mode, its recipe, and the description of the tensors that it was trained on.

    Raises:
        UserError: As in `load`, or the model was not trained on these tensors.
    """
    classifier, recipe = load(path)
    tensors.check_made_for(dataset_h5, recipe.description)
    return classifier, recipe, Description(**recipe.description)
