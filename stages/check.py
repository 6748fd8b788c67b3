"""params.yaml, checked as a whole before any work: names of datasets, keys, types and ranges.

python -m stages.check
"""

from stages.lib import command, params
from stages.lib.core import terminal
from stages.lib.core.progress import say


@terminal.program()
def main() -> None:
    if not params.load(command.PARAMS_YAML).datasets:
        say(f"{command.PARAMS_YAML} has no data set yet: `python -m tools.init NAME FOLDER` begins one")


if __name__ == "__main__":
    main()
