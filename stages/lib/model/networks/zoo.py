"""torchvision's zoo by its own registry: AlexNet, ResNet and the rest for images, the video models for volumes."""

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from stages.lib.core.nearest import hint
from stages.lib.model.networks.adapting import adapt


class Torchvision(nn.Module):
    """A model of torchvision, its channels and classes those of the data. Weights: see `train.pretrained`."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        model: str = "resnet18",
        resize: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Args: resize: Pixels that H and W are brought to first; options: The model's own, such as {dropout: 0.2}.

        Raises:
            ValueError: There is no such model for images (or, by the size, for volumes).
        """
        super().__init__()
        from torchvision import models  # here: who needs none of the zoo needs no torchvision

        known = models.list_models(models if len(size) == 2 else models.video)
        if model not in known:
            samples = "images" if len(size) == 2 else "volumes"
            raise ValueError(f"torchvision has no model '{model}' for {samples}: {hint(model, known)}")
        wanted = inspect.signature(models.get_model_builder(model)).parameters
        fixed: dict[str, Any] = {"weights": None}
        if model in ("googlenet", "inception_v3"):  # else a tuple while training, and slow random weights
            fixed |= {"aux_logits": False, "init_weights": True}
        if "weights_backbone" in wanted:
            fixed["weights_backbone"] = None
        self.model = models.get_model(model, **fixed, **(options or {}))
        adapt(self.model, channels, classes)
        self.resize = [*size[:-2], resize, resize] if resize else list(size)
        self.mode = "bilinear" if len(size) == 2 else "trilinear"
        self.resizes = bool(resize)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes)
        if self.resizes:
            x = functional.interpolate(x, self.resize, mode=self.mode, align_corners=False)
        return self.model(x)
