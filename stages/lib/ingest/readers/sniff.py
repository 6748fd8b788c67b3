"""Formats told by their first bytes, never by a file's name."""


def looks_like_dicom(content: bytes) -> bool:
    """A preamble and DICM; or neither, but a data set that starts with an element of group 0002 or 0008.

    Old files have no preamble: the group is then the first number, and the element's number and length are small.
    """
    if content[128:132] == b"DICM":
        return True
    if content[:4] == b"DICM":
        return True
    little = content[:2] in (b"\x02\x00", b"\x08\x00") and content[3:4] == b"\x00"
    big = content[:2] == b"\x00\x08" and content[2:3] == b"\x00"
    return len(content) > 8 and (little or big)
