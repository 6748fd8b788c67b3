"""Torch Hub entry points: the networks, untrained; they need torch alone.

torch.hub.load("<owner>/<repository>", "compact", channels=3, classes=2, size=(32, 32), widths=[16, 32, 64])
"""

from stages.lib.networks import Compact as compact  # noqa: N813
from stages.lib.networks import Convolutional as convolutional  # noqa: N813
from stages.lib.networks import FullyConnected as fully_connected  # noqa: N813
from stages.lib.networks import Residual as residual  # noqa: N813
from stages.lib.networks import Skip as skip  # noqa: N813

dependencies = ["torch"]
__all__ = ["compact", "convolutional", "fully_connected", "residual", "skip"]
