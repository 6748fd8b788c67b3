"""params.yaml, checked as a whole before any work: names of datasets, keys, types and ranges.

python -m stages.check
"""

from stages.lib import command, params
from stages.lib.core import terminal


@terminal.program()
def main() -> None:
    params.load(command.PARAMS_YAML)


if __name__ == "__main__":
    main()
