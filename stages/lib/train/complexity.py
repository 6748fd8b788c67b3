"""What a network costs: its parameters, and the multiply-adds of one sample."""

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from stages.lib.model.classifier import Classifier


@torch.no_grad()
def complexity(model: Classifier, sample: Tensor) -> dict[str, int]:
    """Parameters, those that learn, and multiply-adds of the forward pass of one sample (1, C, ...)."""
    was_training = model.training
    with FlopCounterMode(display=False) as counter:
        model.eval()(sample)
    model.train(was_training)
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {
        "parameters": sum(size for size, _ in sizes),
        "learning": sum(size for size, learns in sizes if learns),
        "multiply_adds": counter.get_total_flops() // 2,
    }
