"""What stands in the place of an exported file that a network can't have, or that nobody asked for.

dvc wants every out of a stage to be there. So a format that is left out is a file of one line of JSON, which no runtime
takes for a model, people can read, and every reader of this project answers with the reason:

    {"left_out": "torchscript", "reason": "..."}
"""

import json

BEGINNING = b'{"left_out": '
LONGEST = 4096  # bytes


def note(name: str, reason: str) -> bytes:
    """The content of the file.

    Args:
        name: Of the format.
    """
    return (json.dumps({"left_out": name, "reason": reason}) + "\n").encode()


def why(content: bytes) -> str | None:
    """The reason that a file gives, None of any other file."""
    if len(content) > LONGEST or not content.startswith(BEGINNING):
        return None
    try:
        reason = json.loads(content)["reason"]
    except (ValueError, KeyError, RecursionError):
        return None
    return reason if isinstance(reason, str) else None
