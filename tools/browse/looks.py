"""What needs the network: where it looked, how unlike the training data a case is. Apart, as torch takes seconds."""

from typing import Any

import numpy as np
import torch

from stages.lib import tensors
from stages.lib.core.errors import UserError
from stages.lib.export import validation
from stages.lib.model import checkpoint
from stages.lib.model.deployed import Settings, strangeness
from stages.lib.validate import answers, case_sheets, gradcam
from stages.lib.validate.kinds.classes import Classes
from tools.browse.listing import Listing, Paths
from tools.browse.pictures import png
from tools.browse.told import Predictions

BATCH = 64


class Looks:
    """The network of model.pt, and the samples of dataset.h5, which are what it saw."""

    def __init__(self, paths: Paths) -> None:
        """
        Raises:
            UserError: There is no trained model yet.
        """
        if not paths.model_pt.exists() or not paths.dataset_h5.exists():
            raise UserError(f"{paths.model_pt} not found: run `dvc repro` first")
        self._classifier, recipe = checkpoint.load(paths.model_pt)
        self._asked = tensors.Description(**recipe.description).asked
        self._sheets = case_sheets.CaseSheets(
            self._classifier,
            recipe.normalise["low"],
            recipe.normalise["high"],
            Classes(self._asked),  # the sheets' window is the same for all kinds
        )
        self._splits = {name: tensors.read_split(paths.dataset_h5, name) for name in ("train", "validation", "test")}
        self._validate_json = paths.validate_json

    def heat(self, case: str, label: str) -> tuple[bytes, int | None]:
        """Where the network saw a class: a PNG file of the sample, and the slice of a volume that it is.

        Raises:
            UserError: There is no such sample, or no such class.
        """
        if label not in self._asked.names:
            raise UserError(f"the model has no class {label}")
        sample = self._sample(case)
        heat = gradcam.explain(self._classifier, sample, self._asked.names.index(label))
        depth = int(heat.sum((1, 2)).argmax()) if heat.ndim == 3 else None
        return png(self._sheets.explanation(sample, heat)), depth

    def training(self, listing: Listing) -> dict[str, Any]:
        """What the network answers to the cases it was trained on, as of `Predictions.answers`, and which they are.

        It has seen their labels; one that it contradicts all the same may be wrong.
        """
        split = self._splits["train"]
        settings = Settings(**validation.read(self._validate_json)["deployed"])
        asked = self._asked
        said = answers.ask(self._classifier, split, settings.flips, BATCH, "train", asked).deployed(settings)
        told = Predictions(
            *("now", asked.kind, asked.names, {name: i for i, name in enumerate(split.cases)}),
            [asked.names[k] for k in said.argmax(1)] if asked.target.of_one_class else [],
            said,
            settings.thresholds,
            asked.unit,
        )
        place = {case: i for i, case in enumerate(listing.cases)}
        rows = [place[case] for case in split.cases if case in place]
        cases = [listing.cases[i] for i in rows]
        return {"case": cases, **told.answers(cases, listing.truth(rows))}

    def _sample(self, case: str) -> np.ndarray:
        name = np.bytes_(case.encode("ascii", "replace"))
        for split in self._splits.values():
            if len(found := np.flatnonzero(split.case == name)):
                return np.array(split.x[found[0]])
        raise UserError(f"dataset.h5 has no case {case}: run `dvc repro`")

    def unlike(self) -> dict[str, Any]:
        """How many deviations each case of validation and test is from the training data, and from where on it counts.

        Raises:
            UserError: validate has measured no threshold.
        """
        settings = Settings(**validation.read(self._validate_json)["deployed"])
        if settings.unlike_threshold is None:
            raise UserError("validate had no validation case to measure on what is unlike the training data")
        found: dict[str, float] = {}
        for name in ("validation", "test"):
            split = self._splits[name]
            if len(split.x):
                measured = torch.from_numpy(
                    answers.measure(self._classifier, split.x, BATCH, f"unlike: {name}", self._asked)
                )
                found |= zip(split.cases, strangeness(measured, settings).tolist(), strict=True)
        return {"threshold": settings.unlike_threshold, "of": found}
