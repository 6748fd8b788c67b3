"""card.md with names that would be markup."""

import re

import pandas as pd
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from stages.lib.export import card
from stages.lib.params.export import CardParams

HOSTILE = ["</p><script>a()</script>", "![a](http://x/y.png)", "a|b", "`c`\n\n# d"]
FACTS = {
    "dataset": "mine",
    "network": "compact",
    "classes": HOSTILE,
    "cases": {"train": [1, 2, 3, 4], "test": [1, 1, 1, 1]},
    "input": {
        "axes": ["N", "C", "H", "W"],
        "shape": [1, 8, 8],
        "channels": [1],
        "size": "fitted",
        "dtype": "uint8",
        "units": "<b>",
        "spacing_mm": None,
        "inputs": ["input"],
    },
}
MEASURED = {
    "validation": {},
    "test": {"accuracy": 0.5},
    "test_interval": {},
    "operating_point": {"positive": HOSTILE[0], "threshold": 0.5, "test": {"sensitivity": 1.0}},
}


def test_names_of_classes_are_text_of_the_card_and_tables_keep_their_columns():
    by_class = pd.DataFrame({"cases": "1", "recall": ["0.5", "", "1", "0.25"]}, index=HOSTILE)
    about = CardParams(source="<script>a()</script>", licence="MIT: yes\n# no")
    _, front, body = card.text(FACTS, MEASURED, by_class, 1e-7, pd.DataFrame(), about).split("---\n", 2)
    assert YAML(typ="safe").load(front)["license"] == about.licence
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    tokens = [token for token in parser.parse(body) for token in [token, *(token.children or ())]]
    assert not [token for token in tokens if token.type in ("html_block", "html_inline", "image", "link_open")]
    headings = [after.content for token, after in zip(tokens, tokens[1:], strict=False) if token.type == "heading_open"]
    assert "d" not in headings and "mine: a classifier of images" in headings
    text = "".join(token.content for token in tokens if token.type in ("text", "text_special"))
    for name in HOSTILE:
        assert text.count(" ".join(name.split())) >= 2, "in the sentence, and over a column of the table"
    rows = [len(re.findall(r"<t[hd]\b", row)) for row in parser.render(body).split("<tr>")]
    assert rows.count(3) == 5, "class, cases, recall: the head and four classes"
    codes = [token.content for token in tokens if token.type == "code_inline"]
    assert "export.card.contact" in codes and "export.card.source" not in codes
    assert rows.count(6) == 3, "split, four classes and their sum: the head, train, test"
