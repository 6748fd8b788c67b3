"""What the network says of each case, asked once: all that validation measures follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from stages.lib.core.errors import UserError
from stages.lib.model.classifier import Classifier
from stages.lib.model.deployed import averaged, measures, views_of
from stages.lib.model.inference import predict_all
from stages.lib.tensors import Split


@dataclass(frozen=True)
class Answers:
    """Of the N cases of a split."""

    logits: Sequence[np.ndarray]  # of each view, (N, K) float64, first of the sample itself
    measures: np.ndarray  # (N, 4) float64: as of `deployed.measures`

    def probabilities(self, temperature: float) -> np.ndarray:
        """(N, K) float64, as `Deployed` computes them."""
        logits = [torch.from_numpy(view).float() for view in self.logits]  # they were float32
        return averaged(logits, temperature).double().numpy()


class _Asked(nn.Module):
    def __init__(self, classifier: Classifier, flips: str) -> None:
        super().__init__()
        self.classifier, self.views = classifier, views_of(flips)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:  # -> (N, K) of each view, and (N, 4)
        x = self.classifier.normalise(x)
        logits = [self.classifier.network(torch.flip(x, view) if view else x) for view in self.views]
        return *logits, measures(logits[0], x)


def ask(classifier: Classifier, split: Split, flips: str, batch_size: int, name: str) -> Answers:
    """The network's answers to a split's cases and their mirror images.

    Args:
        flips: As of `Settings`.
        name: Of the split, for the progress.

    Raises:
        UserError: An answer is no finite number.
    """
    *logits, measured = predict_all(_Asked(classifier, flips).eval(), split.x, batch_size, name)
    finite = np.all([np.isfinite(view).all(1) for view in logits], axis=0)
    failed = np.flatnonzero(~finite)
    if len(failed):
        raise UserError(
            f"the model's answer to case {split.cases[failed[0]]} is no finite number, and so are {len(failed)} of "
            f"{len(finite)}: the training diverged (try a smaller train.lr), or the case's own pixels are no numbers"
        )
    return Answers(logits, measured)


def measure(classifier: Classifier, x: np.ndarray, batch_size: int, doing: str) -> np.ndarray:
    """(N, 4) measures of samples that are in no split."""
    return predict_all(_Asked(classifier, "").eval(), x, batch_size, doing)[-1]
