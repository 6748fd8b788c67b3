"""The networks by name, one architecture per file. Of all packages, they need torch alone.

A network is a `torch.nn.Module` class that maps float32 (N, C, *size) to logits (N, classes). Its constructor takes
`(channels, classes, size)` and then its own options, as keyword arguments with defaults. `size` is the spatial shape,
(H, W) or (D, H, W), and tells 2-D from 3-D.
"""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from stages.lib.core.nearest import hint
from stages.lib.model.networks.compact import Compact
from stages.lib.model.networks.convolutional import Convolutional
from stages.lib.model.networks.fully_connected import FullyConnected
from stages.lib.model.networks.hub import Hub
from stages.lib.model.networks.residual import Residual
from stages.lib.model.networks.skip import Skip
from stages.lib.model.networks.zoo import Torchvision

NETWORKS: dict[str, type[nn.Module]] = {
    "fully_connected": FullyConnected,
    "convolutional": Convolutional,
    "skip": Skip,
    "residual": Residual,
    "compact": Compact,
    "torchvision": Torchvision,
    "hub": Hub,
}


def build(name: str, channels: int, classes: int, size: tuple[int, ...], arguments: Mapping[str, Any]) -> nn.Module:
    """A network by name.

    Args:
        size: Spatial shape of a sample, (H, W) or (D, H, W).
        arguments: The network's own options.

    Raises:
        ValueError: The name or an option is unknown; the message names the nearest.
    """
    if name not in NETWORKS:
        raise ValueError(f"network '{name}' is unknown: known are {', '.join(NETWORKS)}")
    options = list(inspect.signature(NETWORKS[name]).parameters)[3:]
    for option in arguments:
        if option not in options:
            raise ValueError(f"network '{name}' has no option '{option}': {hint(option, options)}")
    return NETWORKS[name](channels, classes, size, **arguments)
