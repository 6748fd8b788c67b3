"""Recognises a format by the first bytes of a file, never by its name."""

TGA_TYPES = tuple(bytes([kind]) for kind in (1, 2, 3, 9, 10, 11))


def looks_like_dicom(content: bytes) -> bool:
    """Whether there is a DICM, after a preamble or at the start; or a data set that starts in group 0002 or 0008.

    The latter are old files. They start with the group, followed by the element's number, which is small.
    """
    if content[128:132] == b"DICM":
        return True
    if content[:4] == b"DICM":
        return True
    little = content[:2] in (b"\x02\x00", b"\x08\x00") and content[3:4] == b"\x00"
    big = content[:2] == b"\x00\x08" and content[2:3] == b"\x00"
    # A TGA with a name of two or eight letters starts in the same way; but no such element is empty.
    is_tga = content[2:3] in TGA_TYPES and content[4:8] == b"\0\0\0\0"
    return len(content) > 8 and (little or big) and not is_tga
