"""Bars on terminals, lines elsewhere, silence for what is quick."""

import io

from f2d_core.cli.progress import Bar, announce
from f2d_core.duration import duration


class Screen(io.StringIO):
    def __init__(self, terminal, encoding="utf-8"):
        super().__init__()
        self._terminal, self._encoding = terminal, encoding

    encoding = property(lambda self: self._encoding)

    def isatty(self):
        return self._terminal


def drive(screen, seconds_per_step, total):
    now = [0.0]
    bar = Bar("Sampling", screen, lambda: now[0])
    for done in range(1, total + 1):
        now[0] += seconds_per_step
        bar(done, total)
    return screen.getvalue()


def test_quick_work_shows_nothing():
    assert drive(Screen(True), 0.01, 30) == drive(Screen(False), 0.01, 30) == ""


def test_a_terminal_sees_one_line_that_is_redrawn():
    text = drive(Screen(True), 0.5, 10)
    assert text.count("\r") == 9 and text.count("\n") == 1 and text.endswith("\033[K\n")
    assert "2/10, about 4 s left" in text
    assert text.splitlines()[-1].count("█") == 24 and "10/10, 5 s" in text


def test_a_terminal_is_redrawn_ten_times_a_second_at_most():
    assert drive(Screen(True), 0.01, 200).count("\r") <= 12


def test_a_file_gets_a_line_now_and_then():
    lines = drive(Screen(False), 1.0, 60).splitlines()
    assert [line.split()[2] for line in lines] == ["1/60,", "11/60,", "21/60,", "31/60,", "41/60,", "51/60,", "60/60,"]
    assert not any("\r" in line or "\033" in line for line in lines)


def test_plain_signs_where_the_terminal_has_no_others(monkeypatch):
    text = drive(Screen(True, "ascii"), 1.0, 2)
    assert "############------------ 1/2" in text and text.isascii()
    screen = Screen(False, "ascii")
    monkeypatch.setattr("sys.stderr", screen)
    announce("Loading")
    assert screen.getvalue() == "Loading ...\n"


def test_what_takes_long_is_told_in_minutes_and_hours():
    assert [duration(seconds) for seconds in (99, 100, 5999, 6000, 90_000)] == [
        "99 s",
        "2 min",
        "100 min",
        "2 h",
        "25 h",
    ]
    assert "1/3, about 20 min left" in drive(Screen(False), 600, 3)
