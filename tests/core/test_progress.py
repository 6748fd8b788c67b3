from stages.lib.core import progress


def test_a_log_gets_lines_and_quick_work_says_nothing(capsys):
    assert list(progress.progress(range(3), "count", "case")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_long_work_writes_lines_with_rate_and_time_left(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    list(progress.progress(iter(range(30)), "count", "case", total=30))
    lines = capsys.readouterr().err.splitlines()
    assert "count: 100%" in lines[-1]
    assert "30/30" in lines[-1]
    assert "case/s" in lines[-1]
    assert not any("\r" in line for line in lines)
