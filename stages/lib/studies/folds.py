"""folds.csv, which says of each case outside of the test split in which fold it is held out."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.lib.core import tables
from stages.lib.core.reading import reading
from stages.lib.splits import NAME

COLUMNS = ("case", "fold")
NEVER = -1  # a case that is always trained on


@dataclass(frozen=True)
class Folds:
    """N cases, ascending by name."""

    case: np.ndarray  # (N,) NAME
    fold_of: np.ndarray  # (N,) int32, or NEVER

    def blocks(self) -> Iterator[pd.DataFrame]:
        """As text, as it is written."""
        names = np.array([*map(str, range(self.fold_of.max(initial=0) + 1)), ""], object)
        for at in range(0, len(self.case), tables.BLOCK_ROWS):
            rows = slice(at, at + tables.BLOCK_ROWS)
            cells = self.case[rows].astype(str).astype(object), names[self.fold_of[rows]]
            yield pd.DataFrame(dict(zip(COLUMNS, cells, strict=True)), dtype=object)


def read(folds_csv: Path) -> Folds:
    """Raises:
    DamagedOut: The file is missing, or is none that the stage folds could have written.
    """
    cases, folds = [], []
    with reading(folds_csv):
        for block in tables.read_blocks(folds_csv, COLUMNS[:1], more=True, optional=COLUMNS[1:]):
            if COLUMNS[1] not in block:
                raise ValueError(f"it has no column {COLUMNS[1]}")
            cells = block["fold"]
            wrong = ~cells.str.fullmatch(r"\d{0,4}")
            tables.refuse(block, wrong, "the fold is '{fold}': expected a number, or nothing")
            cases.append(np.array([name.encode() for name in block["case"]], NAME))
            folds.append(cells.replace("", str(NEVER)).astype(np.int32).to_numpy())
        found = Folds(np.concatenate(cases), np.concatenate(folds))
        if not (found.case[1:] > found.case[:-1]).all():
            raise ValueError("the cases are not in order, or one is there twice")
        return found
