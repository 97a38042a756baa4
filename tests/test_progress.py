"""Progress bars: how much a log file is told, and how much a terminal."""

from __future__ import annotations

import io
import time

import pytest

from gemkr.progress import TERMINAL_SECONDS, progress_bar


class Screen(io.StringIO):
    """A standard error that says whether somebody watches."""

    def __init__(self, watched: bool) -> None:
        super().__init__()
        self.watched = watched

    def isatty(self) -> bool:
        return self.watched


def written(monkeypatch: pytest.MonkeyPatch, watched: bool) -> list[str]:
    """What a bar over six items writes while three terminal refreshes go by."""
    screen = Screen(watched)
    monkeypatch.setattr("sys.stderr", screen)
    seen = []
    for item in progress_bar(range(6), "mining", unit=" queries"):
        seen.append(item)
        time.sleep(TERMINAL_SECONDS / 2)
    assert seen == list(range(6))
    return [line for line in screen.getvalue().replace("\n", "\r").split("\r") if line.strip()]


def test_a_log_hears_of_the_beginning_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = written(monkeypatch, watched=False)
    assert len(lines) == 2
    assert lines[0].startswith("mining:   0%")
    assert lines[1].startswith("mining: 100%")


def test_a_terminal_hears_of_what_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = written(monkeypatch, watched=True)
    assert len(lines) > 2
    assert lines[-1].startswith("mining: 100%")
    assert "6/6" in lines[-1]
