import pytest

from stages.lib.core.errors import UserError
from tools import audit

CLEAN = {"name": "clean", "version": "1.0", "vulns": []}
UNKNOWN = {"name": "unknown", "skip_reason": "Dependency not found on PyPI"}
FLAWED = {"name": "flawed", "version": "1.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["1.1"]}]}
HOPELESS = {"name": "hopeless", "version": "2.0", "vulns": [{"id": "CVE-2026-2", "fix_versions": []}]}


def exit_status(monkeypatch, answers):
    monkeypatch.setattr(audit, "ask", lambda requirements: answers)
    with pytest.raises(SystemExit) as ended:
        audit.main()
    return ended.value.code


def test_no_known_vulnerability_is_status_0(monkeypatch, capsys):
    assert exit_status(monkeypatch, [CLEAN, CLEAN]) == 0
    assert capsys.readouterr().out == "no vulnerability is known of 2 packages\n"


def test_known_vulnerabilities_are_named_with_the_way_out_and_are_status_3(monkeypatch, capsys):
    assert exit_status(monkeypatch, [CLEAN, FLAWED, HOPELESS]) == 3
    assert capsys.readouterr().out.splitlines() == [
        "flawed 1.0: CVE-2026-1, mended in 1.1: make upgrade",
        "hopeless 2.0: CVE-2026-2, not mended yet",
    ]


def test_a_package_of_which_nothing_was_told_is_no_clean_package():
    with pytest.raises(
        UserError, match="^flawed 1.0: CVE-2026-1.*\nthe index told nothing of 1 of 3 packages: unknown$"
    ):
        audit.verdict([CLEAN, UNKNOWN, FLAWED])
    with pytest.raises(UserError, match=r"told nothing of 7 of 7 packages: (unknown, ){5}\.\.\.$"):
        audit.verdict([UNKNOWN] * 7)
    with pytest.raises(UserError, match="told nothing"):
        audit.verdict([])


@pytest.mark.slow
def test_where_no_index_is_in_reach_it_says_so(tmp_path, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    pins = tmp_path / "pins.txt"
    pins.write_text(f"six==1.17.0 \\\n    --hash=sha256:{'a' * 64}\n")
    with pytest.raises(UserError, match="^nothing was audited: the index could not be asked\n.*127.0.0.1"):
        audit.ask(pins)
