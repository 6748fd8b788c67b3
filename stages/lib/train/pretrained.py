"""Weights to begin from: published by torchvision, in a local file, or of a former model of this project."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stages.lib.core.errors import UserError
from stages.lib.model.checkpoint import Recipe
from stages.lib.model.classifier import Classifier
from stages.lib.model.networks.adapting import fill
from stages.lib.params.train import TrainParams


def begin_from(params: TrainParams, recipe: Recipe, model: Classifier) -> None:
    """Fills the network with `train.pretrained` or `train.warm_start`, if either is given.

    Raises:
        UserError: The weights can't be read, or are another network's.
    """
    same = True
    if params.pretrained is not None:
        key, weights = "train.pretrained", pretrained(params.pretrained, recipe)
    elif params.warm_start is not None:
        key, (weights, same) = "train.warm_start", of_former_model(Path(params.warm_start), recipe)
    else:
        return
    try:
        kept = fill(model.network, weights, head=same)
    except ValueError as error:
        raise UserError(f"{key}: {error}") from None
    print(f"{key}: weights taken over" + (f", but for {', '.join(kept)}" if kept else ""), file=sys.stderr)


def pretrained(name: str, recipe: Recipe) -> Mapping[str, Tensor]:
    """The weights in a file, or, by name, those that torchvision publishes for the network."""
    if Path(name).suffix:
        return _read("train.pretrained", Path(name))
    if recipe.network != "torchvision":
        raise UserError(f"train.pretrained is {name}: a name is for torchvision's networks; give a file for others")
    from torchvision import models

    published = models.get_model_weights(recipe.arguments.get("model", "resnet18"))
    if name != "DEFAULT" and name not in published.__members__:
        raise UserError(f"train.pretrained is {name}: known are DEFAULT, {', '.join(published.__members__)}, or a file")
    try:
        return published[name].get_state_dict(check_hash=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the file's hash is not the published one
        raise UserError(
            f"train.pretrained: {published[name].url} can't be had ({error}); download it elsewhere and give its path"
        ) from None


def of_former_model(path: Path, recipe: Recipe) -> tuple[Mapping[str, Tensor], bool]:
    """The network's weights in a former model.pt, and whether its outputs mean the same.

    A last layer of as many outputs may be of other classes, of them in another order, or of labels.
    """
    content = _read("train.warm_start", path)
    former, weights = content.get("recipe"), content.get("weights")
    if not (isinstance(former, dict) and isinstance(weights, dict)):
        raise UserError(f"train.warm_start: {path} is no model.pt of this project")
    if former.get("network") != recipe.network:
        raise UserError(
            f"train.warm_start: {path} holds {former.get('network')}, where train.network is {recipe.network}"
        )
    same = _outputs(former.get("description")) == _outputs(recipe.description)
    return {name.removeprefix("network."): value for name, value in weights.items()}, same


def _outputs(description: Any) -> tuple[Any, Any]:
    """The kind of answer and the names of a recipe's description."""
    about = description if isinstance(description, dict) else {}
    return (about.get("target") or {"kind": "classes"}).get("kind"), about.get("classes")


def _read(key: str, path: Path) -> dict:
    if not path.exists():
        raise UserError(
            f"{key}: {path} not found (dvc removes a stage's own outs before it runs: copy a former model.pt elsewhere)"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises many types of errors
        raise UserError(f"{key}: {path} can't be read as weights: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{key}: {path} holds no state dict")
    return content
