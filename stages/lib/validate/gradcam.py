"""Class-activation maps: where the network looked (Grad-CAM, Selvaraju et al. 2017, arXiv:1610.02391)."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from stages.lib.model.classifier import Classifier


def explain(classifier: Classifier, sample: np.ndarray, k: int) -> np.ndarray:
    """How much each place is evidence for a class, in [0, 1].

    Taken from the last layer whose output has more than one place; in a fully connected network, the normalised input.

    Args:
        sample: (C, H, W) or (C, D, H, W), the dataset's own integers.
        k: The class.

    Returns:
        (H, W) or (D, H, W), as large as the sample.
    """
    size = sample.shape[1:]
    x = torch.from_numpy(np.array(sample))[None]
    with torch.enable_grad():
        activation, logits = _last_map(classifier, x)
        (gradient,) = torch.autograd.grad(logits[0, k], activation)
    places = tuple(range(2, activation.ndim))
    weight = gradient.mean(places, keepdim=True)  # (1, C, 1, ...)
    heat = torch.relu((weight * activation).sum(1, keepdim=True)).detach()  # (1, 1, ...)
    heat = interpolate(heat, size, mode="bilinear" if len(size) == 2 else "trilinear", align_corners=False)[0, 0]
    return (heat / heat.max().clamp(min=1e-12)).numpy()


def _last_map(classifier: Classifier, x: Tensor) -> tuple[Tensor, Tensor]:
    """The last activation with more than one place, (1, C, ...), and the logits, (1, K)."""
    found: list[Tensor] = []

    def watch(module: nn.Module, arguments: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == x.ndim and output[0, 0].numel() > 1 and output.requires_grad:
            found.append(output)

    def require(module: nn.Module, arguments: Any, output: Tensor) -> Tensor:
        return output.detach().requires_grad_()

    hooks = [classifier.normalise.register_forward_hook(require)]
    hooks += [module.register_forward_hook(watch) for module in classifier.modules() if module is not classifier]
    try:
        logits = classifier(x)
    finally:
        for hook in hooks:
            hook.remove()
    return found[-1], logits
