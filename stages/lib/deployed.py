"""The model as it leaves the pipeline: integers in, probabilities out."""

import torch
from torch import Tensor, nn

from stages.lib.classifier import Classifier


class Deployed(nn.Module):
    """The classifier, its temperature and softmax. Validation measures this module and export writes it.

    Dividing the logits by a temperature changes no order, so no top class: only how sure the model says it is.
    """

    def __init__(self, classifier: Classifier, temperature: float = 1.0) -> None:
        super().__init__()
        self.classifier = classifier
        self.register_buffer("temperature", torch.tensor(temperature), persistent=False)

    def forward(self, x: Tensor) -> Tensor:  # (N, C, *size) -> (N, classes), each row sums to 1
        return torch.softmax(self.classifier(x) / self.temperature, dim=1)
