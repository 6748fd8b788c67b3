"""Models of torchvision by their names there: AlexNet, ResNet and so on for images, video models for volumes."""

import inspect
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from stages.lib.core.nearest import hint
from stages.lib.model.networks.adapting import adapt


class Torchvision(nn.Module):
    """A model of torchvision, fitted to the data's channels and classes. Its weights: see `train.pretrained`."""

    def __init__(
        self,
        channels: int,
        classes: int,
        size: tuple[int, ...],
        model: str = "resnet18",
        resize: int | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        """
        Args:
            model: A name of `torchvision.models.list_models`.
            resize: Pixels that H and W are resized to first.
            options: The model's own arguments, such as {dropout: 0.2}.

        Raises:
            ValueError: There is no such model for images (or for volumes, if `size` has three axes).
        """
        super().__init__()
        from torchvision import models  # not at the top: other networks need no torchvision

        names = models.list_models(models if len(size) == 2 else models.video)
        if model not in names:
            samples = "images" if len(size) == 2 else "volumes"
            raise ValueError(f"torchvision has no model '{model}' for {samples}: {hint(model, names)}")
        accepted = inspect.signature(models.get_model_builder(model)).parameters
        fixed: dict[str, Any] = {"weights": None}
        if model in ("googlenet", "inception_v3"):  # else they give a tuple in training, and take long to draw weights
            fixed |= {"aux_logits": False, "init_weights": True}
        if "weights_backbone" in accepted:
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
