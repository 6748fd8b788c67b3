"""The deployed model behind the dataset's geometry: from a picture or series as it was read to probabilities."""

import torch
from torch import Tensor, nn

from stages.lib.core.errors import UserError
from stages.lib.geometry import Geometry


class Native(nn.Module):
    """First a geometry, or `Colour` or `Branching` in its place, then the deployed model."""

    def __init__(self, first: nn.Module, deployed: nn.Module) -> None:
        super().__init__()
        self.first, self.deployed = first, deployed

    def forward(self, x: Tensor, spacing_mm: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """(N, C, *any size) of the cases' own integers -> (N, classes), and (N,) if the deployed model has two outputs.

        Args:
            spacing_mm: Of all N, along D, H, W (or H, W); needed if the geometry has a spacing.
        """
        return self.deployed(self.first(x, spacing_mm))


def behind(geometry: Geometry, deployed: nn.Module, size: str, channels: int) -> Native:
    """The deployed model as it is exported.

    Args:
        size: As `ExportParams.size`.
        channels: Of the network's input.

    Raises:
        UserError: `size` is any, but the network takes one size only, or the dataset has one spacing.
    """
    if size == "fitted":
        return Native(geometry, deployed).eval()
    if geometry.spaced:
        raise UserError(
            "export.size is any, but the dataset has one spacing, to which only a file of fitted size brings what it "
            "is given: take export.size: fitted"
        )
    larger = [2 * n for n in geometry.shape]
    try:
        with torch.inference_mode():
            deployed(torch.zeros(1, channels, *larger))
    except Exception as error:  # of any layer
        raise UserError(
            f"export.size is any, but the network takes samples of {tuple(geometry.shape)} alone: {error}. "
            "Take export.size: fitted, or train a network that pools over all places, such as compact"
        ) from None
    return Native(Colour(geometry), deployed).eval()


class Colour(nn.Module):
    """A geometry's colour and dtype alone: the network runs on the size that it is given."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, x: Tensor, spacing_mm: Tensor | None = None) -> Tensor:
        return self.geometry.adapted(self.geometry.recoloured(x))


class Branching(nn.Module):
    """A geometry for torch.export, which keeps a branch that depends on the input only if it is a torch.cond."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, x: Tensor, spacing_mm: Tensor | None = None) -> Tensor:
        x = self.geometry.recoloured(x)
        operands = (x,) if spacing_mm is None else (x, spacing_mm)
        return torch.cond(self.geometry.same(x, spacing_mm), self._as_it_is, self._fitted, operands)

    def _as_it_is(self, x: Tensor, spacing_mm: Tensor | None = None) -> Tensor:
        x = self.geometry.adapted(x)
        sizes = list(zip(x.shape[2:], self.geometry.shape, strict=True))
        nothing = [side for n, wanted in reversed(sizes) for side in (0, wanted - n)]
        return nn.functional.pad(x, nothing)  # from here on torch knows that the size is the shape

    def _fitted(self, x: Tensor, spacing_mm: Tensor | None = None) -> Tensor:
        return self.geometry.fitted(x, spacing_mm)
