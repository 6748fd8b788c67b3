import io
import re
import subprocess
import sys

import pytest

from stages.lib.core import progress, terminal
from stages.lib.core.errors import UserError
from tests import ROOT

HOSTILE = {
    "\x1b[2J\x1b]0;title\x07": r"\u001b[2J\u001b]0;title\u0007",
    "sound\rcrack": r"sound\rcrack",
    "\x9b31m": r"\u009b31m",  # an escape sequence in one character
    "gnp.\u202excod": r"gnp.\u202excod",  # shown backwards
    "\u2066a\u2069\u200f": r"\u2066a\u2069\u200f",
    "a\u2028b\u2029c": r"a\u2028b\u2029c",
    "a\x00b\x08c\x7f": r"a\u0000b\bc\u007f",
    "\udcff.png": r"\udcff.png",  # a file's name that is no UTF-8
    "\U000e0041\ufeff\u200b": r"\udb40\udc41\ufeff\u200b",  # read by machines, seen by nobody
}
PLAIN = ("a class", "Größe 5 µm", "数字", "می\u200cخواهم", "👩\u200d🔬", "$(x) `y` 'z' <b> %s {}", "C:\\data")


@pytest.fixture
def printed(monkeypatch):
    """What reaches stdout and stderr, of a strict encoding, once output is escaped."""

    def streams(encoding="utf-8"):
        for name in ("stdout", "stderr"):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding, errors="strict", newline=""))
        behind = (sys.stdout, sys.stderr)
        terminal.escape_output()
        return lambda: [(stream.flush(), stream.buffer.getvalue().decode(encoding))[1] for stream in behind]

    return streams


@pytest.mark.parametrize("text", HOSTILE)
def test_what_can_move_hide_or_turn_text_is_shown_escaped(printed, text):
    said = printed()
    print(text)
    print(text, file=sys.stderr)
    assert said() == [HOSTILE[text] + "\n"] * 2
    assert terminal.shown(text) == HOSTILE[text]


def test_what_can_be_seen_is_shown_as_it_is(printed):
    said = printed()
    print("\t".join(PLAIN))
    assert said()[0] == "\t".join(PLAIN) + "\n"
    assert [terminal.shown(text) for text in PLAIN] == list(PLAIN)


def test_a_name_never_makes_a_line_of_its_own():
    assert terminal.shown("a\n::error::b\tc") == r"a\n::error::b\tc"


def test_what_an_encoding_lacks_is_escaped_instead_of_failing(printed):
    said = printed("ascii")
    print("é 数 \udcff")
    assert said()[0] == "\\xe9 \\u6570 \\udcff\n"


def test_a_list_of_lines_is_escaped_too(printed):
    said = printed()
    sys.stderr.writelines(["\x1bc\n", "\r\n"])
    assert said()[1] == "\\u001bc\n\\r\n"


def test_output_is_escaped_once_however_often_it_is_asked_for(printed):
    said = printed()
    terminal.escape_output()
    print("\x1b\\")
    assert said()[0] == "\\u001b\\\n"


def test_a_progress_bar_still_moves_the_cursor_and_its_title_does_not(printed, monkeypatch):
    said = printed()
    monkeypatch.setattr(terminal.raw(sys.stderr), "isatty", lambda: True, raising=False)
    list(progress.progress(range(3), "ingest \x1b[2J", "case"))
    assert "\ringest \\u001b[2J: 100%" in said()[1] and "\x1b[2J" not in said()[1]


def test_a_users_mistake_is_one_message_with_exit_status_1(capsys):
    with pytest.raises(SystemExit, match="^error: labels.csv is missing$"), terminal.program():
        raise UserError("labels.csv is missing")
    with pytest.raises(SystemExit, match="130"), terminal.program():
        raise KeyboardInterrupt


def test_a_traceback_and_a_users_mistake_are_escaped_at_the_end_of_a_process():
    code = "from stages.lib.core import terminal, errors\nwith terminal.program(): raise {}('\\x1b[2J')"
    for error in ("ValueError", "errors.UserError"):
        command = [sys.executable, "-c", code.format(error)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 1
        assert r"\u001b[2J" in done.stderr and "\x1b[2J" not in done.stderr


def test_every_program_of_the_project_prints_through_it():
    files = [path for folder in ("stages", "tools") for path in (ROOT / folder).rglob("*.py")]
    programs = {path.name: text for path in files if '\nif __name__ == "__main__":' in (text := path.read_text())}
    assert len(programs) > 20
    bare = [name for name, text in programs.items() if not re.search(r"@terminal\.program\(\)|command\.run\(", text)]
    assert bare == []
