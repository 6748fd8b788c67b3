"""Sheets of cases: chosen ones with their probabilities, those that explain a class or a mistake, training samples."""

from collections.abc import Sequence

import numpy as np

from stages.lib.drawing import sheets
from stages.lib.drawing.sheets import Sheet, Tile
from stages.lib.model.classifier import Classifier
from stages.lib.tensors import Split
from stages.lib.validate import gradcam
from stages.lib.validate.kinds.kind import Kind, Look, of_some

SHORT_ID = 6  # digits of a case's name: among 40,000 cases, about fifty pairs share them


class CaseSheets:
    """Draws the sheets of one dataset, in the intensity window of its network."""

    def __init__(self, classifier: Classifier | None, low: Sequence[float], high: Sequence[float], kind: Kind) -> None:
        """
        Args:
            classifier: None where nobody asks for what it looked at.
            low, high: The window, one number per channel.
        """
        self._classifier, self._low, self._high, self._kind = classifier, low, high, kind

    def worst(self, split: Split, said: np.ndarray, most: int) -> Sheet:
        """The worst cases, at most so many, and of classes and labels none that is right; the title says how many."""
        wrong = self._kind.wrong(split, said)
        return self._cases(split, said, wrong[:most], self._kind.worst_title(len(wrong), len(split.y), most))

    def uncertain(self, split: Split, said: np.ndarray, most: int, away: np.ndarray | None = None) -> Sheet:
        """The least certain cases, right or wrong.

        Args:
            away: As of `Kind.unsure`.
        """
        return self._cases(split, said, self._kind.unsure(said, away)[:most], self._kind.unsure_title(away))

    def _cases(self, split: Split, said: np.ndarray, chosen: np.ndarray, title: str) -> Sheet:
        tiles = []
        for i in chosen:
            text, right = self._kind.caption(split, said, int(i))
            tiles.append(Tile(self._image(split.x[i]), f"{_short_id(split, i)}\n{text}", right))
        return Sheet(title, tiles)

    def explained(self, split: Split, said: np.ndarray) -> Sheet:
        """Cases that show what the model looks for, and where the network looked."""
        title, looks = self._kind.explained(split, said)
        return Sheet(title, [self._looked(split, look) for look in looks])

    def explained_mistakes(self, split: Split, said: np.ndarray) -> Sheet:
        """The worst cases, and what the network took for its answer."""
        title, looks = self._kind.explained_mistakes(split, said)
        return Sheet(title, [self._looked(split, look) for look in looks], columns=4)

    def _looked(self, split: Split, look: Look) -> Tile:
        assert self._classifier is not None
        sample = np.array(split.x[look.case])
        heat = gradcam.explain(self._classifier, sample, look.output)
        return Tile(self.explanation(sample, heat), f"{_short_id(split, look.case)}\n{look.text}", look.right)

    def explanation(self, sample: np.ndarray, heat: np.ndarray) -> np.ndarray:
        """The sample with its heat map over it, (H, W, 3); of a volume, the slice with the most heat."""
        if heat.ndim == 3:
            depth = int(heat.sum((1, 2)).argmax())
            sample, heat = sample[:, depth], heat[depth]
        return sheets.overlaid(self._image(sample), heat)

    def samples(self, split: Split) -> Sheet:
        """The first cases that are alike: a random choice, since cases are sorted by identifiers that are hashes."""
        tiles = []
        for name, cases in self._kind.samples(split):
            for i in cases:
                tiles.append(Tile(self._image(split.x[i]), f"{_short_id(split, i)}\n{name}"))
        return Sheet(of_some("Training samples", self._kind.names, self._kind.names_are), tiles)

    def _image(self, sample: np.ndarray) -> np.ndarray:
        return sheets.displayable(sample, self._low, self._high)


def _short_id(split: Split, i: int) -> str:
    """The beginning of a case's name, which tools.which takes."""
    return split.case[i].decode()[:SHORT_ID]
