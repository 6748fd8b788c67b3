"""What lies beside the slices of scans and is none: reports, lists, empty files, thumbnails.

An archive of scans holds such files everywhere. They are no case and no loss, so they are ignored, each by what it is.
But one that is named as the slices beside it are may be a slice that was overwritten, as by the error page of a server,
or emptied: it stays what it was, and `dicom_series` gives its series up.
"""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from stages.lib.ingest.readers.contract import Refusal

Place = tuple[str, str]  # folder, and ending of the names in it
ENDINGS = (".dcm", ".dicom", ".ima")  # of slices, whatever those beside are called
# Of a whole volume, which may be the only one in its folder.
VOLUME_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".npy", ".npz", ".h5", ".hdf5")
KINDS = {
    "empty": "empty_file",
    "not_an_image": "no_picture",
    "unsupported_format": "other_format",
}
"""What files of these reasons are ignored as, in a data set of volumes."""
DOCUMENTS = ("PDF",)  # of the formats that are told by name, those that hold no volume


def place(path: str) -> Place:
    """The folder of a file and the ending of its name: .dcm of 0001.dcm, nothing of a name without.

    Names that are UIDs or numbers have none either: 1.2.840.17 ends otherwise than 1.2.840.18.
    """
    folder, name = os.path.split(path)
    ending = os.path.splitext(name)[1].lower()
    return folder, ending if any(map(str.isalpha, ending)) else ""


def is_volume(path: str) -> bool:
    """Whether a file is called as whole volumes are."""
    return path.lower().endswith(VOLUME_ENDINGS)


def of_slices(paths: Iterable[str]) -> set[Place]:
    """Where slices lie, and how the names there end, or could end."""
    found = {place(path) for path in paths}
    return found | {(folder, ending) for folder, _ in found for ending in ENDINGS}


def around(paths: Iterable[str]) -> set[Place]:
    """Of a series whose slices lie in several folders of one, as one a folder: any folder there may hold another slice.

    Returns:
        Places whose folder is the one around them, with the endings of the slices.
    """
    folders: dict[str, set[str]] = defaultdict(set)
    endings: dict[str, set[str]] = defaultdict(set)
    for folder, ending in {place(path) for path in paths}:
        above = os.path.dirname(folder)
        folders[above].add(folder)
        endings[above].add(ending)
    return {
        (above, ending) for above, below in folders.items() if len(below) > 1 for ending in {*endings[above], *ENDINGS}
    }


def set_aside(refused: Sequence[Refusal], slices: Collection[Place], above: Collection[Place] = ()) -> list[Refusal]:
    """The refusals of a data set of volumes, where files beside the slices that are none of them are ignored.

    Args:
        slices: As of `of_slices`.
        above: As of `around`, of all series.
    """
    return [_ignored(refusal) if _is_companion(refusal, slices, above) else refusal for refusal in refused]


def _is_companion(refusal: Refusal, slices: Collection[Place], above: Collection[Place]) -> bool:
    if refusal.ignored or refusal.series or refusal.reason not in KINDS:
        return False
    if refusal.reason == "unsupported_format" and not refusal.detail.startswith(DOCUMENTS):
        return False  # an archive or a volume of another format may be what somebody wants read
    if any(map(is_volume, refusal.paths)):
        return False
    return all(place(path) not in slices and one_up(place(path)) not in above for path in refusal.paths)


def one_up(place: Place) -> Place:
    """The same ending in the folder around."""
    return os.path.dirname(place[0]), place[1]


def _ignored(refusal: Refusal) -> Refusal:
    return refusal._replace(reason=KINDS[refusal.reason], ignored=True)


def thumbnails(paths: Sequence[str], slices: Collection[Place]) -> tuple[list[str], list[str]]:
    """Of pictures in a data set of volumes, those in a folder of slices, and the others."""
    folders = {folder for folder, _ in slices}
    beside = [path for path in paths if os.path.dirname(path) in folders]
    return beside, [path for path in paths if os.path.dirname(path) not in folders]
