"""Content-Security-Policy of pages that are one file: no script runs and no style holds but those known by hash."""

import base64
import hashlib


def hash_of(text: str) -> str:
    """How a policy names the content of a script or style element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
