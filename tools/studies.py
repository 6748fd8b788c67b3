"""Writes studies.yaml, by which dvc.yaml has a stage for each training of a study and each external dataset.

    python -m tools.studies          # as `make repro` and tools.repro do by themselves; then `dvc repro`

It follows from the sections `study` of params.yaml, and is committed with it. The outs of trainings that no study asks
for any more are removed; dvc's cache and git still have them.
"""

import io
from pathlib import Path

from ruamel.yaml import YAML

from stages.lib import command, params
from stages.lib.core import outs, terminal
from stages.lib.core.progress import say
from stages.lib.studies import listing

HEAD = "# Written by `python -m tools.studies` from the sections `study` of params.yaml; dvc.yaml makes stages of it.\n"


@terminal.program()
def main() -> None:
    for line in update():
        say(line)


def update() -> list[str]:
    """Brings the lists up to date, and takes away what is in none; a sentence on each.

    Raises:
        UserError: params.yaml has a mistake.
    """
    path = command.studies_yaml() if command.DVC_YAML.exists() else None
    if path is None:
        return []
    given = params.load(command.PARAMS_YAML)
    wanted = text(listing.listed(given))
    said = []
    if not path.exists() or path.read_text(encoding="utf-8") != wanted:
        outs.write_bytes(path, wanted.encode())
        said.append(f"{path} is new: commit it with {command.PARAMS_YAML}")
    for dataset in given.datasets:
        for folder in strays(dataset, given.section(dataset, "study")):
            outs.remove(folder)
            said.append(f"{folder} is removed, as no study asks for it")
    return said


def text(lists: command.Lists) -> str:
    """What studies.yaml holds."""
    yaml, written = YAML(), io.StringIO()
    yaml.default_flow_style = None  # an entry is a line
    yaml.width = 1 << 16
    yaml.dump(lists, written)
    return HEAD + written.getvalue()


def strays(dataset: str, study: params.StudyParams) -> list[Path]:
    """The folders of trainings that the study has not."""
    names = {member.name for member in study.members()}
    there = [path for folder in command.member_folders(dataset) if folder.is_dir() for path in sorted(folder.iterdir())]
    return [path for path in there if path.is_dir() and path.name not in names]


if __name__ == "__main__":
    main()
