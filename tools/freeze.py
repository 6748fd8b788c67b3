"""Writes down the test cases of a dataset, so that they stay the test split: frozen/<file>.csv, for `split.freeze`.

    python -m tools.freeze mine               # frozen/mine.csv, or the file that datasets.mine.split.freeze names
    python -m tools.freeze mine --anew        # in place of a list that is there

The test cases are those that the split stage would deal now, without a list: ingest must have run. Cases and groups
stand in it as in cases.csv, by their identifiers. Commit the file.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace

from stages import split
from stages.lib import command, params
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.split import freezing


@terminal.program()
def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.freeze", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("dataset", help="a block of params.yaml's `datasets`")
    parser.add_argument("--anew", action="store_true", help="replace the list that is there")
    given = parser.parse_args(argv)
    section = params.load(command.PARAMS_YAML, given.dataset).section(given.dataset, "split")
    deps, _ = command.stage_paths("split", given.dataset)
    path = deps["frozen"] / (section.freeze or f"{given.dataset}.csv")
    if path.exists() and not given.anew:
        raise UserError(f"{path} is there already: the test cases are frozen; --anew replaces them by others")
    with command.ways_back():
        cases = split.deal(deps["cases_csv"], replace(section, freeze=None), deps["frozen"])
    if not len(cases.rows("test")):
        raise UserError(f"datasets.{given.dataset}.split deals no test cases: there is nothing to freeze")
    number = freezing.write(path, cases)
    print(f"{path}: {number} test cases. Commit it: `git add {path}`")
    if section.freeze is None:
        print(f"To keep them, add to params.yaml: datasets.{given.dataset}.split.freeze: {path.name}")


if __name__ == "__main__":
    main()
