"""Layers by their names in torch.nn, for 2 dims (images) or 3 (volumes)."""

from collections.abc import Sequence

from torch import nn

CONVOLUTION: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
MAX_POOL: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
GLOBAL_POOL: dict[int, type[nn.Module]] = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}

RISING = ("ELU", "Hardtanh", "LeakyReLU", "ReLU", "ReLU6", "SELU", "Sigmoid", "Softplus", "Softsign", "Tanh")
"""Activations that never fall, so that they commute with max pooling."""


def check_number(name: str, number: int) -> None:
    """Checks a number of layers or blocks; a negative one would silently make none.

    Raises:
        ValueError: It is below 0.
    """
    if number < 0:
        raise ValueError(f"{name} is {number}: expected 0 or more")


def convolution(dims: int, inputs: int, outputs: int, kernel: int = 3, bias: bool = True) -> nn.Conv2d | nn.Conv3d:
    """A convolution that keeps the spatial size (for an odd kernel)."""
    return CONVOLUTION[dims](inputs, outputs, kernel, padding=kernel // 2, bias=bias)


def activation(name: str) -> nn.Module:
    """An activation with its default arguments: "Tanh", "ReLU", "GELU", "Hardtanh" ...

    Raises:
        ValueError: torch.nn.modules.activation has no such class, or it needs arguments.
    """
    cls = getattr(nn.modules.activation, name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ValueError(f"activation '{name}' is unknown: any of torch.nn's is possible, such as ReLU, GELU or Tanh")
    try:
        return cls()
    except TypeError as error:
        raise ValueError(f"activation '{name}' can't be had without arguments: {error}") from None


def norm(name: str | None, channels: int, dims: int) -> nn.Module:
    """A normalisation layer: "BatchNorm", "InstanceNorm" (without their 2d or 3d), "GroupNorm", or None for none.

    GroupNorm takes the largest number of groups, up to 8, that divides the channels.

    Raises:
        ValueError: The name is unknown.
    """
    if name is None:
        return nn.Identity()
    if name == "GroupNorm":
        return nn.GroupNorm(max(groups for groups in range(1, 9) if channels % groups == 0), channels)
    if name not in ("BatchNorm", "InstanceNorm"):
        raise ValueError(f"norm '{name}' is unknown: known are BatchNorm, InstanceNorm, GroupNorm, or null for none")
    return getattr(nn, f"{name}{dims}d")(channels)


def dropout(name: str, rate: float, dims: int) -> nn.Module:
    """A dropout layer: "Dropout", "AlphaDropout", or "DropoutNd", which drops whole channels.

    Raises:
        ValueError: The name is unknown, or the rate out of range.
    """
    names = {"Dropout": "Dropout", "AlphaDropout": "AlphaDropout", "DropoutNd": f"Dropout{dims}d"}
    if name not in names:
        raise ValueError(f"dropout_name '{name}' is unknown: known are {', '.join(names)}")
    if not 0 <= rate < 1:
        raise ValueError(f"dropout is {rate}: expected a fraction, 0 or more and below 1")
    return getattr(nn, names[name])(rate) if rate else nn.Identity()


def halving(size: Sequence[int]) -> tuple[nn.Module, tuple[int, ...]]:
    """A max pooling that halves every axis longer than 1, and the size after it."""
    kernel = tuple(2 if length > 1 else 1 for length in size)
    after = tuple(length // step for length, step in zip(size, kernel, strict=True))
    return MAX_POOL[len(size)](kernel), after
