"""What systems and editors leave behind, in folders and in archives alike."""

from itertools import takewhile

LITTER_NAMES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "icon\r"}


def is_litter(name: str) -> bool:
    """Hidden files and folders (.DS_Store, ._x.jpg, .ipynb_checkpoints), and what Windows leaves behind."""
    return name[0] == "." or name.lower() in LITTER_NAMES


def lies_in_litter(path: str) -> bool:
    """Whether a file, or a folder that it lies in, is litter; of a path with / and without empty parts."""
    return any(map(is_litter, path.split("/")))


def above_litter(folder: str) -> str:
    """A folder, or the innermost one around it that is no litter and lies in none; "" where there is none."""
    return "/".join(takewhile(lambda name: name and not is_litter(name), folder.split("/")))
