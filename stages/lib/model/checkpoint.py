"""model.pt: the weights, and what rebuilds the model around them. Read with weights_only, so no pickle runs code."""

import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from stages.lib import tensors
from stages.lib.core import outs
from stages.lib.core.reading import parsed, reading
from stages.lib.model import archive, networks
from stages.lib.model.classifier import Classifier, Normalise, OrdinalClassifier
from stages.lib.tensors import Description

KNOWN = r"data\.pkl|version|byteorder|\.data/version|\.format_version|\.storage_alignment|data/[0-9]+"
NO_NETWORK: Mapping[str, Any] = MappingProxyType({"name": "", "arguments": {}})
VALUES = 100_000  # of a recipe, at most
MODULES_OF_A_WEIGHT = 20  # at most: most layers have weights
ALLOCATING = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.eye, torch.arange}


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
    network = networks.build(recipe.network, channels, outputs(recipe), tuple(size), recipe.arguments)
    kind = OrdinalClassifier if about.asked.kind == "ordinal" else Classifier
    return kind(Normalise(**recipe.normalise), network)


def outputs(recipe: Recipe) -> int:
    """How many numbers the network gives of a sample."""
    asked = Description(**recipe.description).asked
    return len(asked.names) - (asked.kind == "ordinal")


def save(path: Path, recipe: Recipe, model: Classifier) -> None:
    """Writes a checkpoint; the same weights give the same bytes under any path."""
    content = io.BytesIO()  # torch.save(path) would put the file's name into the bytes
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    torch.save({"recipe": asdict(recipe), "weights": weights}, content)
    outs.write_bytes(path, content.getvalue())


def load(
    path: Path, device: str = "cpu", code_of_others: bool = False, hub_repository: str | None = None
) -> tuple[Classifier, Recipe]:
    """The model in eval mode, and the recipe that it was built from.

    Args:
        code_of_others: Whether a network of Torch Hub is built, which runs the code of the repository that the file
            names.
        hub_repository: The only one whose network is built without that.

    Raises:
        DamagedOut: The file is missing, or is not a checkpoint of this project.
    """
    with reading(path):
        path.stat()
        content = archive.read_file(path) if path.is_file() else path.read_bytes()  # of a folder: an error
        recipe, weights = _unpacked(content, device)
        known = hub_repository is not None and recipe.arguments.get("repo") == hub_repository
        if recipe.network == "hub" and not code_of_others and not known:
            raise ValueError("its network is of Torch Hub, and building it would run the code of others; give --trust")
        with _Bounded(_count(weights, len(content)), len(weights)):
            model = build(recipe)
        if _kinds(weights) != _kinds(model.state_dict()) or any(weight.is_meta for weight in weights.values()):
            raise ValueError(f"its weights are not those of the network {recipe.network} of its recipe")
        model.load_state_dict(weights)
    return model.to(device).eval(), recipe


def _unpacked(content: bytes, device: str) -> tuple[Recipe, dict[str, Tensor]]:
    """The recipe and the weights of a file; raises a ValueError if it is none of this project's."""
    try:
        members = archive.read(content, KNOWN, "as an archive")
        archive.check_pickle(members, "data.pkl", archive.TENSORS)
        found = torch.load(io.BytesIO(archive.packed(members)), map_location=device, weights_only=True)
    except Exception as error:  # unpickling raises many types of errors
        raise ValueError(f"it is no checkpoint of this project: {str(error)[:200]}") from None
    if not isinstance(found, dict) or set(found) != {"recipe", "weights"}:
        raise ValueError("it is no checkpoint of this project")
    _check_values(found["recipe"])
    return _checked(found["recipe"]), found["weights"]


def _check_values(recipe: Any) -> None:
    """Raises a ValueError unless a recipe holds plain values, few enough to be looked at."""
    waiting: list[Any] = [recipe]
    for _ in range(VALUES):
        if not waiting:
            return
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif not isinstance(value, (str, int, float, type(None))):
            raise ValueError(f"its recipe holds a {type(value).__name__}")
    raise ValueError("its recipe is too long")


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


def _count(weights: Mapping[str, Tensor], size: int) -> int:
    """The weights' numbers, which the file does hold: a stride of 0 makes any number of one."""
    if not all(weight.is_contiguous() for weight in weights.values()):
        raise ValueError("its weights are not contiguous")
    if sum(weight.numel() * weight.element_size() for weight in weights.values()) > size:
        raise ValueError("its weights are larger than itself")
    return sum(weight.numel() for weight in weights.values())


class _Bounded(TorchFunctionMode):
    """A network is built here only if it is about as large as its weights: a recipe can ask for any width and depth."""

    def __init__(self, numbers: int, weights: int) -> None:
        super().__init__()
        self._left = 4 * numbers + 2**22  # initialisation needs some for a moment
        self._modules = MODULES_OF_A_WEIGHT * (weights + 5)

    def __enter__(self) -> "_Bounded":
        self._counting = register_module_module_registration_hook(self._count_module)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        self._counting.remove()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in ALLOCATING:
            sizes = args[0] if args and isinstance(args[0], (tuple, list)) else args or (kwargs or {}).get("size", ())
            self._left -= math.prod(size for size in sizes if isinstance(size, int))
            if self._left < 0:
                raise ValueError("its network is larger than the weights that it holds")
        return func(*args, **(kwargs or {}))

    def _count_module(self, *_: Any) -> None:
        self._modules -= 1
        if self._modules < 0:
            raise ValueError("its network has more layers than it holds weights for")


def _kinds(weights: Mapping[str, Tensor]) -> dict[str, tuple[object, ...]]:
    return {name: (weight.shape, weight.dtype, weight.layout) for name, weight in weights.items()}


def load_for(
    dataset_h5: Path, path: Path, network: Mapping[str, Any] = NO_NETWORK
) -> tuple[Classifier, Recipe, Description]:
    """The model in eval mode, its recipe, and the description of the tensors that it was trained on.

    Args:
        network: As params.yaml asks for it, `name` and `arguments`: code of Torch Hub runs only if it is of the
            repository that the user chose.

    Raises:
        UserError: As in `load`, or the model was not trained on these tensors.
    """
    chosen = network["arguments"].get("repo") if network["name"] == "hub" else None
    classifier, recipe = load(path, hub_repository=chosen)
    tensors.check_made_for(dataset_h5, recipe.description)
    return classifier, recipe, Description(**recipe.description)
