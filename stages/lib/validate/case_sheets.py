"""Sheets of cases: chosen ones with their probabilities, those that explain a class, and training samples."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from stages.lib.model.classifier import Classifier
from stages.lib.tensors import Split
from stages.lib.validate import figures, gradcam

SAMPLES_PER_CLASS = figures.COLUMNS  # one row of the sheet
SHORT_ID = 6  # digits of a case's name: among 40,000 cases, about fifty pairs share them
MAX_CLASSES = 10  # more would make a sheet that nobody looks through, and that git has to keep


class CaseSheets:
    """Draws the sheets of one dataset, in the intensity window of its network."""

    def __init__(
        self, classifier: Classifier, low: Sequence[float], high: Sequence[float], classes: Sequence[str]
    ) -> None:
        """Args: low, high: The window, one number per channel."""
        self._classifier, self._low, self._high, self._classes = classifier, low, high, classes

    def cases(self, split: Split, probabilities: np.ndarray, chosen: np.ndarray, title: str) -> Figure:
        """The chosen cases, captioned with their label and prediction."""
        told = [figures.caption(split.y[i], probabilities[i], self._classes) for i in chosen]
        captions = [f"{_short_id(split, i)} · {text}" for i, text in zip(chosen, told, strict=True)]
        return figures.sheet([self._image(split.x[i]) for i in chosen], captions, title)

    def explained(self, split: Split, probabilities: np.ndarray) -> Figure:
        """For each class the case with the highest probability of it, and where the network looked."""
        images, captions = [], []
        for k, name in enumerate(self._classes[:MAX_CLASSES]):
            if len(split.y):
                i = int(probabilities[:, k].argmax())
                sample, heat = np.array(split.x[i]), gradcam.explain(self._classifier, split.x[i], k)
                images.append(self.explanation(sample, heat))
                captions.append(f"{_short_id(split, i)} · {figures.short(name, 18)}: {probabilities[i, k]:.0%}")
        return figures.sheet(images, captions, self._title("What the network looked at"))

    def explanation(self, sample: np.ndarray, heat: np.ndarray) -> np.ndarray:
        """The sample with its heat map over it, (H, W, 3); of a volume, the slice with the most heat."""
        if heat.ndim == 3:
            depth = int(heat.sum((1, 2)).argmax())
            sample, heat = sample[:, depth], heat[depth]
        return figures.overlaid(self._image(sample), heat)

    def samples(self, split: Split) -> Figure:
        """The first cases of each class: a random choice, since cases are sorted by identifiers that are hashes."""
        images, captions = [], []
        for k, name in enumerate(self._classes[:MAX_CLASSES]):
            chosen = np.flatnonzero(split.y == k)[:SAMPLES_PER_CLASS]
            images += [self._image(split.x[i]) for i in chosen]
            captions += [f"{_short_id(split, i)} · {figures.short(name, 20)}" for i in chosen]
        return figures.sheet(images, captions, self._title("Training samples"))

    def _title(self, title: str) -> str:
        classes = len(self._classes)
        return title if classes <= MAX_CLASSES else f"{title}: {MAX_CLASSES} of {classes} classes"

    def _image(self, sample: np.ndarray) -> np.ndarray:
        return figures.displayable(sample, self._low, self._high)


def _short_id(split: Split, i: int) -> str:
    """The beginning of a case's name, which tools.which takes."""
    return split.case[i].decode()[:SHORT_ID]
