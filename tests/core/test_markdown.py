import html
import re

import pytest
from markdown_it import MarkdownIt

from stages.lib.core.markdown import escape

HOSTILE = (
    "[a](javascript:alert())",
    "![a](http://x/y.png)",
    "[a]: http://x",
    "[^1]",
    "`a` ``b``",
    "a|b|c",
    "*a* **b** _c_ __d__ ~~e~~",
    "<script>alert()</script>",
    "<img src=x onerror=alert()>",
    "<!-- a -->",
    "<http://x>",
    "<?a?>",
    "&lt;b&gt; &amp; &#60;b>",
    "a\n\n# b\n\n- c\n\n---",
    "a\r\n| b |\n|---|",
    "a\\",
    "\\[a](b)\\",
    "_a_b_ <= c@d",
    "a\u2028b\tc",
)


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(
    "around", ["of 3 classes: {}, b.\n", "# {}: a classifier\n", "| a | b |\n|---|---|\n| {} | c |\n"]
)
def test_a_name_is_shown_letter_by_letter_and_is_no_markup(name, around):
    renderer = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    plain = re.sub(r"\s+", " ", name)
    wanted = renderer.render(around.format("NAME")).replace("NAME", html.escape(plain))
    rendered = renderer.render(around.format(escape(name)))
    assert _spaces(rendered) == _spaces(wanted)


def _spaces(text):
    return re.sub(r"\s+(?=<|\b|$)", " ", text.replace("&quot;", '"').replace("&#x27;", "'"))


@pytest.mark.parametrize("name", ["https://x.org/a", "HTTP://x", "www.x.org", "see WWW.x.org"])
def test_a_bare_address_is_no_link_where_hosts_make_links_of_them(name):
    # cmark-gfm looks for these in the source: its extension "autolink".
    assert not re.search(r"(?i)\bwww\.|https?://", escape(name))
    assert MarkdownIt("commonmark").render(escape(name)) == f"<p>{name}</p>\n"


def test_a_mention_and_what_cannot_be_seen_are_escaped():
    assert escape("@owl") == r"\@owl"
    assert escape("a\x1b[2J\u202eb") == r"a\\u001b\[2J\\u202eb"
