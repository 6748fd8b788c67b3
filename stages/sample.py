"""A demo dataset, which ships with a package or is simulated -> data/raw/<dataset>.

python -m stages.sample digits
"""

from pathlib import Path

from stages.lib import command
from stages.lib.core import outs
from stages.lib.params.sample import SampleParams
from stages.lib.sample import digits, phantoms


def main(raw: Path, params: SampleParams) -> None:
    with outs.replacing(raw) as folder:
        folder.mkdir()
        if params.source == "digits":
            digits.write(folder)
        else:
            phantoms.write(folder, params.patients, params.seed)


if __name__ == "__main__":
    command.run(main)
