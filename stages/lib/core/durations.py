"""How long stages took when they ran last, and how long they may take now."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stages.lib.core import outs

FILE = ".seconds.json"  # beside the cases of a dataset, out of git
WORTH_SAYING = 10  # seconds that are left of a pipeline
STARTING = 2  # seconds of a stage that do not grow with the data: imports


class Expected(NamedTuple):
    """The seconds of stages, and whose they were."""

    seconds: Mapping[str, float]
    like: str = ""  # the dataset that they are reckoned from, where the stages have not run for this one


def note(place: Path, stage: str, seconds: float) -> None:
    """Keeps how long a stage took; where the dataset has no folder yet, there is no run to tell of."""
    if place.parent.is_dir():
        with suppress(OSError):  # it is worth no error
            outs.write_json(place, read(place) | {stage: seconds})


def read(place: Path) -> dict[str, float]:
    """The seconds of each stage's last run, as far as they are known."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return {str(k): float(v) for k, v in found.items()} if isinstance(found, dict) else {}
    except (OSError, ValueError, TypeError):
        return {}


def reckoned(place: Path, raw: Path) -> Expected:
    """What the stages may take for a dataset that they have not run for: by those of the dataset nearest in size.

    Time grows with the bytes of the raw data, but for what a stage needs to start. It is a rough guess, better than
    none: other pictures, another network and other epochs change it.

    Args:
        place: Where the dataset's times would be; those of others are in folders beside its own.
        raw: The dataset's raw data; those of others lie beside it under their names.
    """
    others = {found.parent.name: read(found) for found in sorted(place.parents[1].glob(f"*/{FILE}"))}
    sizes = {name: size(raw.with_name(name)) for name, seconds in others.items() if seconds and name != raw.name}
    own, known = size(raw), {name: found for name, found in sizes.items() if found}
    if not own or not known:
        return Expected({})
    like = min(known, key=lambda name: max(known[name] / own, own / known[name]))
    times = own / known[like]
    grown = {stage: min(s, STARTING) + times * max(0.0, s - STARTING) for stage, s in others[like].items()}
    return Expected(grown, like)


def size(folder: Path) -> int:
    """Bytes of the files below a folder; 0 where there is none."""
    with suppress(OSError):  # a file that goes away meanwhile
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return 0


def sentence(stage: str, order: Sequence[str], own: Mapping[str, float], other: Expected) -> str:
    """How long a stage and those behind it take; empty where that is not known, or soon over.

    Args:
        order: All stages.
        own: Seconds of the dataset's last runs.
        other: What stages may take that have no such run.
    """
    seconds = dict(other.seconds) | dict(own)
    behind = [seconds[name] for name in order[order.index(stage) + 1 :] if name in seconds]
    if stage not in seconds or seconds[stage] + sum(behind) < WORTH_SAYING:
        return ""
    rest = f", and the stages behind it {spoken(sum(behind))}" if behind else ""
    if stage in own:
        return f"it took {spoken(seconds[stage])} the last time{rest}{', where they have to run' if behind else ''}"
    return f"it may take {spoken(seconds[stage])}{rest}: reckoned from {other.like} by the size of the raw data"


def spoken(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
