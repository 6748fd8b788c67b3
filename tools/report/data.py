"""What changed in a dataset between two revisions, from what git tracks: counts, hashes, histograms."""

from typing import Any

from stages.lib.validate.drift import drift
from tools.report.snapshot import Results, flatten


def changes(old: Results, new: Results) -> dict[str, Any]:
    """Raw data, counts and intensities, each [old, new], and how many cases validation and test gained and lost."""
    return {
        "raw": {key: [_raw(old).get(key), _raw(new).get(key)] for key in ("nfiles", "size", "md5")},
        "same_raw": _raw(old) == _raw(new),
        "counts": _pairs(_counts(old), _counts(new)),
        "classes": _pairs(_classes(old), _classes(new)),
        "rejected": [rejected(old), rejected(new)],
        "splits": {split: _added_and_removed(old, new, split) for split in ("validation", "test")},
        "channels": _channels(old, new),
    }


def rejected(results: Results) -> dict[str, float]:
    """How many cases were rejected, and which fraction of all, 0 to 1 (under the key "share")."""
    ingest = results.metrics["ingest"]
    number = _total(ingest.get("rejected", 0))
    kept = _total(ingest.get("cases", 0))
    return {"cases": number, "share": number / (number + kept) if number + kept else 0.0}


def _total(count: Any) -> int:
    return sum(value for _, value in flatten(count)) if isinstance(count, dict) else int(count)


def _raw(results: Results) -> dict[str, Any]:
    for dep in results.lock.get("ingest", {}).get("deps", []):
        if dep["path"].startswith("data/raw/"):
            return {key: dep[key] for key in ("nfiles", "size", "md5") if key in dep}
    return {}


def _counts(results: Results) -> dict[str, int]:
    return {key: value for key, value in flatten(results.metrics["ingest"]) if isinstance(value, int)}


def _classes(results: Results) -> dict[str, int]:
    return results.metrics["statistics"]["classes"]  # of the training split


def _pairs(old: dict[str, int], new: dict[str, int]) -> dict[str, list[int]]:
    return {key: [old.get(key, 0), new.get(key, 0)] for key in sorted({*old, *new})}


def _added_and_removed(old: Results, new: Results, split: str) -> dict[str, int]:
    then, now = set(old.split(split)["case"]), set(new.split(split)["case"])
    return {"old": len(then), "new": len(now), "shared": len(then & now), "added": len(now - then)} | {
        "removed": len(then - now)
    }


def _channels(old: Results, new: Results) -> list[dict[str, Any]]:
    before, after = old.metrics["statistics"], new.metrics["statistics"]
    rows = []
    for then, now in zip(before["channels"], after["channels"], strict=False):
        moved = drift(then, now, before["groups"], after["groups"])
        pairs = {key: [then[key], now[key]] for key in ("mean", "deviation", "minimum", "maximum")}
        rows.append(pairs | {"distance": moved.distance, "p": moved.p})
    return rows
