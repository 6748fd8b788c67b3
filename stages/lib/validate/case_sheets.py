"""Sheets of cases: chosen ones with their probabilities, those that explain a class or a mistake, training samples."""

from collections.abc import Sequence

import numpy as np

from stages.lib.drawing import sheets
from stages.lib.drawing.sheets import Sheet, Tile, short
from stages.lib.model.classifier import Classifier
from stages.lib.tensors import Split
from stages.lib.validate import gradcam, predictions

SAMPLES_PER_CLASS = sheets.COLUMNS  # one row of the sheet
NAME = 20  # characters of a class's name in a caption
SHORT_ID = 6  # digits of a case's name: among 40,000 cases, about fifty pairs share them
MAX_CLASSES = 10  # more would make a sheet that nobody looks through, and that git has to keep
MAX_MISTAKES = 10


class CaseSheets:
    """Draws the sheets of one dataset, in the intensity window of its network."""

    def __init__(
        self,
        classifier: Classifier | None,
        low: Sequence[float],
        high: Sequence[float],
        classes: Sequence[str],
        of: str = "test",
    ) -> None:
        """
        Args:
            classifier: None where nobody asks for what it looked at.
            low, high: The window, one number per channel.
            of: What cases the titles say these are.
        """
        self._classifier, self._low, self._high, self._classes, self._of = classifier, low, high, classes, of

    def worst(self, split: Split, probabilities: np.ndarray, most: int) -> Sheet:
        """Cases that are wrong, and no others: the most wrong first, at most so many; the title says how many are."""
        wrong = predictions.mistakes(split.y, probabilities)
        cases = f"{len(wrong)} wrong of {len(split.y)} {self._of} cases"
        title = f"The {most} most wrong: {cases}" if len(wrong) > most else f"All that are wrong: {cases}"
        return self._cases(split, probabilities, wrong[:most], title)

    def uncertain(self, split: Split, probabilities: np.ndarray, most: int) -> Sheet:
        """The least certain cases, right or wrong."""
        chosen = predictions.uncertainty(probabilities)[:most]
        return self._cases(split, probabilities, chosen, f"The least certain {self._of} cases: ✓ right, ✗ wrong")

    def _cases(self, split: Split, probabilities: np.ndarray, chosen: np.ndarray, title: str) -> Sheet:
        tiles = []
        for i in chosen:
            text, right = caption(split.y[i], probabilities[i], self._classes)
            tiles.append(Tile(self._image(split.x[i]), f"{_short_id(split, i)}\n{text}", right))
        return Sheet(title, tiles)

    def explained(self, split: Split, probabilities: np.ndarray) -> Sheet:
        """For each class the case with the highest probability of it, and where the network looked."""
        tiles = []
        for k in range(min(len(self._classes), MAX_CLASSES) if len(split.y) else 0):
            i = int(probabilities[:, k].argmax())
            tiles.append(self._looked(split, probabilities, i, k, "", bool(split.y[i] == k)))
        return Sheet(self._title("What the network looked at, in the surest case of each class"), tiles)

    def explained_mistakes(self, split: Split, probabilities: np.ndarray) -> Sheet:
        """The most wrong cases: where the network saw the class that it answered, and where the true one."""
        tiles = []
        wrong = predictions.mistakes(split.y, probabilities)[:MAX_MISTAKES]
        for i in wrong:
            answer, truth = int(probabilities[i].argmax()), int(split.y[i])
            tiles.append(self._looked(split, probabilities, i, answer, "answer ", False))
            tiles.append(self._looked(split, probabilities, i, truth, "label ", None))
        title = "Mistakes: what looked like the answer, and what like the label"
        return Sheet(title if len(wrong) else f"0 wrong of {len(split.y)} test cases", tiles, columns=4)

    def _looked(self, split: Split, probabilities: np.ndarray, i: int, k: int, verb: str, right: bool | None) -> Tile:
        assert self._classifier is not None
        sample, heat = np.array(split.x[i]), gradcam.explain(self._classifier, split.x[i], k)
        text = f"{_short_id(split, i)}\n{verb}{short(self._classes[k], NAME)}: {probabilities[i, k]:.0%}"
        return Tile(self.explanation(sample, heat), text, right)

    def explanation(self, sample: np.ndarray, heat: np.ndarray) -> np.ndarray:
        """The sample with its heat map over it, (H, W, 3); of a volume, the slice with the most heat."""
        if heat.ndim == 3:
            depth = int(heat.sum((1, 2)).argmax())
            sample, heat = sample[:, depth], heat[depth]
        return sheets.overlaid(self._image(sample), heat)

    def samples(self, split: Split) -> Sheet:
        """The first cases of each class: a random choice, since cases are sorted by identifiers that are hashes."""
        tiles = []
        for k, name in enumerate(self._classes[:MAX_CLASSES]):
            for i in np.flatnonzero(split.y == k)[:SAMPLES_PER_CLASS]:
                tiles.append(Tile(self._image(split.x[i]), f"{_short_id(split, i)}\n{short(name, NAME)}"))
        return Sheet(self._title("Training samples"), tiles)

    def _title(self, title: str) -> str:
        classes = len(self._classes)
        return title if classes <= MAX_CLASSES else f"{title}: {MAX_CLASSES} of {classes} classes"

    def _image(self, sample: np.ndarray) -> np.ndarray:
        return sheets.displayable(sample, self._low, self._high)


def caption(label: int, probabilities: np.ndarray, classes: Sequence[str]) -> tuple[str, bool]:
    """A case's caption, and whether it is right: "cat: 3%" above "as dog: 96%" is a cat that was taken for a dog."""
    predicted = int(probabilities.argmax())
    text = f"{short(classes[label], NAME)}: {probabilities[label]:.0%}"
    if predicted == label:
        return text, True
    return f"{text}\nas {short(classes[predicted], NAME)}: {probabilities[predicted]:.0%}", False


def _short_id(split: Split, i: int) -> str:
    """The beginning of a case's name, which tools.which takes."""
    return split.case[i].decode()[:SHORT_ID]
