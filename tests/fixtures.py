"""Shared fixtures: where the real material lies, and what a machine without it skips."""

from __future__ import annotations

import fcntl
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
    """Marks what this machine lacks; files with slow tests come first, so that parallel workers end together."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
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
    """A quickstart with a handful of scenes, training steps and queries, made once for all workers; read only."""
    pytest.importorskip("ultralytics")
    from gemkr.cli import main
    from gemkr.sample.plan import plan

    few = [scene for scene in plan(0) if int(scene.scene_id[-4:]) < 40]
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = base / "quickstart"
    with (base / "quickstart.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "quickstart.done").exists():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("gemkr.sample.materialize.plan", lambda seed: few)
                assert main(["quickstart", "-o", str(folder), "--max-steps", "12", "--limit", "16"]) == 0
            (base / "quickstart.done").touch()
    return folder
