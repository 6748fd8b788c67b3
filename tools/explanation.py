"""Where the network looked, for `tools.predict --explain`: apart from it, as torch takes seconds."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from stages.lib.core import outs
from stages.lib.core.errors import UserError
from stages.lib.drawing.sheets import Sheet, Tile, short
from stages.lib.geometry import Geometry
from stages.lib.model import checkpoint
from stages.lib.tensors import Description
from stages.lib.validate import case_sheets, gradcam
from stages.lib.validate.kinds import KINDS
from tools.answers import OfClasses, target
from tools.raw_cases import RawCase

MOST = 50  # cases on one sheet: more would be looked through by nobody, and held in memory all at once
SIDE = 512  # pixels of a picture in a folder, at least, along its longer side


class Explanations:
    """Each case with the heat of what is most probable, or of its number, over it: on one sheet, or each in a file."""

    def __init__(
        self, path: Path, model: Path, facts: Mapping[str, Any], words: OfClasses, trust: bool = False
    ) -> None:
        """Loads the network.

        Args:
            path: Where to: a name that ends with .png is that of one sheet, any other that of a folder of PNG files.
            model: The exported file; model.pt lies beside it.
            facts: The file's metadata.
            words: For what it answers.
            trust: Whether model.pt may name a network whose code is others'.

        Raises:
            UserError: model.pt is missing or refused, or is another model's.
        """
        self._classifier, recipe = checkpoint.load(model.with_name("model.pt"), code_of_others=trust)
        asked = Description(**recipe.description).asked
        if asked.target != target(facts):
            raise UserError(
                f"{model.with_name('model.pt')} answers something else than {model.name}: --explain needs its own"
            )
        self._geometry = Geometry(**recipe.description["geometry"])
        self._sheets = case_sheets.CaseSheets(
            self._classifier, recipe.normalise["low"], recipe.normalise["high"], KINDS[asked.kind](asked)
        )
        self._path, self._words = path, words
        self._is_sheet = path.suffix.lower() == ".png"
        self._number = 0
        self._tiles: list[Tile] = []

    def add(self, case: RawCase, values: np.ndarray | None) -> None:
        """Takes the next case; without pixels or an answer there is nothing to explain.

        Args:
            values: As of `Answer`. A number's heat is where the network saw what makes it larger.
        """
        if case.pixels is None or values is None:
            return
        self._number += 1
        if self._is_sheet and self._number > MOST:
            return
        what, how_much, k = self._words.caption(values)
        spacing = None if case.spacing_mm is None else torch.tensor(case.spacing_mm, dtype=torch.float64)
        sample = self._geometry(torch.from_numpy(case.pixels)[None], spacing)[0].numpy()
        image = self._sheets.explanation(sample, gradcam.explain(self._classifier, sample, k))
        if self._is_sheet:
            name, label = short(Path(case.name).name, 24), short(what, 18)
            self._tiles.append(Tile(image, f"{name}\n{label}: {how_much}"))
        else:
            self._save(image, Path(case.name).name)

    def _save(self, image: np.ndarray, name: str) -> None:
        """Writes (H, W, 3) in [0, 1] under a name that any file system takes."""
        picture = Image.fromarray((image * 255).round().astype(np.uint8))
        times = -(-SIDE // max(picture.size))
        plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name.rpartition(".")[0] or name)[:60]
        with outs.replacing(self._path / f"{self._number:06}_{plain}.png") as partial:
            picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST).save(partial)

    def finish(self) -> str:
        """Writes the sheet; says in a sentence if it lacks cases."""
        if not self._is_sheet:
            return ""
        outs.write_bytes(self._path, Sheet("What the network looked at", self._tiles).png())
        if self._number <= MOST:
            return ""
        return f"{self._path} shows the first {MOST} of {self._number} cases: --explain FOLDER writes a file for each"
