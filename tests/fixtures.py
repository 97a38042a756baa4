"""Shared fixtures: where the real material lies, and what a machine without it skips."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

ROOT = Path(__file__).resolve().parents[1]


def shared_root() -> Path:
    return Path(os.environ.get("GEMKR_SHARED", ROOT.parent / "shared")) / "data"


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = not shared_root().is_dir()
    for item in items:
        if absent and item.get_closest_marker("shared"):
            reason = f"the real material is not at {shared_root()}; set GEMKR_SHARED to its parent folder"
            item.add_marker(pytest.mark.skip(reason=reason))
        if item.get_closest_marker("gpu") and not has_cuda():
            item.add_marker(pytest.mark.skip(reason="this check needs a CUDA device and none is here"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder `../shared/data`; only for tests marked `shared`."""
    return shared_root()


@pytest.fixture(scope="session")
def quickstart_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quickstart with a handful of training steps and queries."""
    pytest.importorskip("ultralytics")
    from gemkr.cli import main

    folder = tmp_path_factory.mktemp("quickstart") / "run"
    assert main(["quickstart", "-o", str(folder), "--max-steps", "12", "--limit", "16"]) == 0
    return folder
