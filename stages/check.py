"""params.yaml, checked as a whole before any work: names of datasets, keys, types and ranges.

An archive beside the folder that its dataset should lie in is told, too, and lists of a study's stages that are old.

python -m stages.check
"""

from pathlib import Path

from stages.lib import command, params
from stages.lib.core import terminal
from stages.lib.core.errors import UserError
from stages.lib.core.progress import say
from stages.lib.studies import listing


@terminal.program()
def main() -> None:
    given = params.load(command.PARAMS_YAML)
    datasets = given.datasets
    if not datasets:
        say(f"{command.PARAMS_YAML} has no data set yet: `python -m tools.init NAME FOLDER` begins one")
    if command.DVC_YAML.exists():
        listing.check(given, command.DVC_YAML)
    for dataset in datasets if command.DVC_YAML.exists() else ():
        raw = command.stage_paths("ingest", dataset)[0]["raw"]
        if not raw.exists() and (way := _instead_of(raw)):
            raise UserError(f"{raw} not found: {way}")


def _instead_of(raw: Path) -> str:
    """What dvc would say nothing of: an archive in place of the folder."""
    if not any(raw.parent.glob(f"{raw.name}.*")):
        return ""
    from stages.lib.ingest.archives import places  # importing it takes a moment

    return places.instead_of(raw)


if __name__ == "__main__":
    main()
