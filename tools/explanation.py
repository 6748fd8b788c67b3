"""Where the network looked, for `tools.predict --explain`: apart from it, as torch and matplotlib take seconds."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from stages.lib.core import outs
from stages.lib.core.errors import UserError
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint
from stages.lib.validate import case_sheets, figures, gradcam
from tools.raw_cases import RawCase


def write(
    path: Path,
    model: Path,
    told: Iterable[tuple[RawCase, np.ndarray | None]],
    classes: Sequence[str],
    trust: bool = False,
) -> None:
    """Writes a PNG of each case with the heat of its most probable class over it.

    Args:
        model: The exported file; model.pt lies beside it.
        told: Cases with their probabilities, (K,); None of those without.
        trust: Whether model.pt may name a network whose code is others'.

    Raises:
        UserError: model.pt is missing or refused, or is another model's.
    """
    classifier, recipe = checkpoint.load(model.with_name("model.pt"), code_of_others=trust)
    if recipe.description["classes"] != list(classes):
        raise UserError(f"{model.with_name('model.pt')} has other classes than {model.name}: --explain needs its own")
    geometry = Geometry(**recipe.description["geometry"])
    sheets = case_sheets.CaseSheets(classifier, recipe.normalise["low"], recipe.normalise["high"], classes)
    images, captions = [], []
    for case, probabilities in told:
        if case.pixels is not None and probabilities is not None:
            k = int(probabilities.argmax())
            spacing = None if case.spacing_mm is None else torch.tensor(case.spacing_mm, dtype=torch.float64)
            sample = geometry(torch.from_numpy(case.pixels)[None], spacing)[0].numpy()
            images.append(sheets.explanation(sample, gradcam.explain(classifier, sample, k)))
            name, label = figures.short(Path(case.name).name, 24), figures.short(classes[k], 18)
            captions.append(f"{name}\n{label}: {probabilities[k]:.0%}")
    with outs.replacing(path) as partial:
        figures.save(partial, figures.sheet(images, captions, "What the network looked at"))
