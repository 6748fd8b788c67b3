"""What systems and editors leave behind, in folders and in archives alike."""

LITTER_NAMES = {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx", "icon\r"}


def is_litter(name: str) -> bool:
    """Hidden files and folders (.DS_Store, ._x.jpg, .ipynb_checkpoints), and what Windows leaves behind."""
    return name[0] == "." or name.lower() in LITTER_NAMES


def lies_in_litter(path: str) -> bool:
    """Whether a file, or a folder that it lies in, is litter; of a path with / and without empty parts."""
    return any(map(is_litter, path.split("/")))
