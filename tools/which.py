"""Which file is this case, and which case is this file?

    python -m tools.which 3f0c                   # the beginning of a case's name
    python -m tools.which images/0007.png        # a file, or a part of its path
    python -m tools.which --dataset mine 3f0c images/0007

It reads data/<dataset>/files.csv and rejected.csv, which ingest leaves on this machine. The exit code is 1 where
something is not found.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.lib.core import tables, terminal
from stages.lib.core.errors import UserError
from stages.lib.core.terminal import shown

DATA = Path("data")
COLUMNS = ["dataset", "case", "path", "outcome"]
MOST_ROWS = 20  # printed for one question


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.which", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="+", help="beginnings of cases' names, or parts of paths")
    parser.add_argument("--dataset", help="look in this one alone")
    arguments = parser.parse_args(argv)
    table = read(DATA, arguments.dataset)
    missing = [word for word in arguments.words if not _answer(table, word)]
    for word in missing:
        print(f"error: no case begins with '{shown(word)}', and no path holds it", file=sys.stderr)
    sys.exit(1 if missing else 0)


def read(data: Path, dataset: str | None = None) -> pd.DataFrame:
    """Every file that ingest saw, a row each, with the `COLUMNS`; `outcome` is label and split, or the reason.

    Raises:
        UserError: No dataset has a files.csv.
    """
    folders = sorted(path.parent for path in data.glob(f"{dataset or '*'}/files.csv"))
    if not folders:
        raise UserError(
            f"{data / (dataset or '<dataset>') / 'files.csv'} not found: run `dvc repro --force ingest@...`"
        )
    return pd.concat([_of(folder) for folder in folders], ignore_index=True)


def _of(folder: Path) -> pd.DataFrame:
    files = _read(folder / "files.csv")
    known = _read(folder / "split.csv" if (folder / "split.csv").exists() else folder / "cases.csv")
    known = known.reindex(columns=["case", "label", "split"], fill_value="")
    files = files.merge(known, how="left", on="case").fillna("")
    files["outcome"] = (files["label"] + " " + files["split"]).str.strip()
    rejected = _read(folder / "rejected.csv")
    rejected["outcome"] = rejected["outcome"] + ": " + rejected["reason"] + " (" + rejected["detail"] + ")"
    found = pd.concat([files, rejected], ignore_index=True)
    return found.assign(dataset=folder.name)[COLUMNS].fillna("")


def _read(table_csv: Path) -> pd.DataFrame:
    try:
        return tables.parse_text(table_csv.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{table_csv} not found: run `dvc repro --force ingest@{table_csv.parent.name}`") from None


def _answer(table: pd.DataFrame, word: str) -> bool:
    """Prints the rows that a word means; False where there are none."""
    found = table[table["case"].str.startswith(word.lower()) | table["path"].str.contains(word, regex=False)]
    for row in found.head(MOST_ROWS).to_numpy().tolist():
        print("  ".join(filter(None, map(shown, row))))
    if len(found) > MOST_ROWS:
        print(f"... and {len(found) - MOST_ROWS} more")
    return len(found) > 0


if __name__ == "__main__":
    main()
