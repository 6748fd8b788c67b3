"""A name in Markdown stays a name."""

import re
from typing import Any

from stages.lib.core.terminal import shown


def escape(text: Any) -> str:
    """A user's text (a class, a file) on one line, its markup, tags, links and mentions escaped; `a_b <= c@d` stays.

    It may stand within a paragraph, a heading or a cell of a table, not at the beginning of a line.
    """
    one_line = shown(re.sub(r"\s+", " ", str(text))).replace("&", "&amp;")
    without_tags = re.sub(r"<(?=[\w/!?])", "&lt;", one_line)
    plain = re.sub(r"([\\`*\[\]|]|~(?=~)|(?<=~)~|(?<!\w)@|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", without_tags)
    return re.sub(r"(?i):(?=//)|(?<=www)\.", r"\\\g<0>", plain)  # hosts make links of bare addresses
