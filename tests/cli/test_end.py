"""How the command ends."""

from __future__ import annotations

import gc

import pytest

import gemkr.cli
from gemkr.__main__ import main


@pytest.mark.parametrize("status", [0, 1])
def test_no_search_for_cycles_waits_at_the_end(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setattr(gemkr.cli, "main", lambda: status)
    try:
        assert main() == status
        assert gc.get_freeze_count() > 1000
    finally:
        gc.unfreeze()
