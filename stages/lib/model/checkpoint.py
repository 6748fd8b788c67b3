"""model.pt: the weights, and what rebuilds the model around them. Read with weights_only, so no pickle runs code."""

import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.lib import tensors
from stages.lib.core import outs
from stages.lib.core.reading import parsed, reading
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
        DamagedOut: The file is missing, or is not a checkpoint of this project.
    """
    with reading(path):
        try:
            content = torch.load(path, map_location=device, weights_only=True)
        except FileNotFoundError:
            raise
        except Exception as error:  # unpickling raises many types of errors
            raise ValueError(f"it is no checkpoint of this project: {error}") from None
        if not isinstance(content, dict) or set(content) != {"recipe", "weights"}:
            raise ValueError("it is no checkpoint of this project")
        recipe = _checked(content["recipe"])
        _check_sizes(recipe, content["weights"])
        model = build(recipe)
        model.load_state_dict(content["weights"])
    return model.to(device).eval(), recipe


def _checked(given: dict[str, Any]) -> Recipe:
    """The recipe of a file; raises a ValueError if its parts do not agree."""
    recipe = parsed(json.dumps(given).encode(), Recipe)
    about = tensors.described(json.dumps(recipe.description).encode())
    numbers = [recipe.normalise.get(name, []) for name in ("low", "high", "shift", "scale")]
    channels, *size = about.shape
    if not all(len(of) == channels and all(map(math.isfinite, of)) for of in numbers):
        raise ValueError(f"normalise: it has not one number for each of {channels} channels")
    if recipe.normalise.get("dims") != len(size):
        raise ValueError(f"normalise.dims is not {len(size)}")
    return Recipe(**given)  # as it was written: an integer stays one


def _check_sizes(recipe: Recipe, weights: dict[str, Tensor]) -> None:
    """Raises a ValueError if the network is not one of these weights, before any memory is taken for it."""
    if recipe.network == "hub":  # code of others, which may not know of tensors without memory
        return
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in build(recipe).state_dict().items()}
    if wanted != {name: value.shape for name, value in weights.items()}:
        raise ValueError(f"its weights are not those of the network {recipe.network} of its recipe")


def load_for(dataset_h5: Path, path: Path) -> tuple[Classifier, Recipe, Description]:
    """The model in eval mode, its recipe, and the description of the tensors that it was trained on.

    Raises:
        UserError: As in `load`, or the model was not trained on these tensors.
    """
    classifier, recipe = load(path)
    tensors.check_made_for(dataset_h5, recipe.description)
    return classifier, recipe, Description(**recipe.description)
