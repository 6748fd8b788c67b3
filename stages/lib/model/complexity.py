"""How large a model is, and how much it computes for one sample."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def complexity(model: nn.Module, sample: Tensor) -> dict[str, int]:
    """The number of parameters, how many of them learn, and the multiply-adds of one forward pass.

    Args:
        sample: (1, C, ...).
    """
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
