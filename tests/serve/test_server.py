"""What a worker process does before it serves."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from serve.tiny_service import write_config
from uvicorn.config import STARTUP_FAILURE

from gemkr.errors import ConfigError
from gemkr.serve import server


@pytest.mark.parametrize(
    "fault", [ConfigError("a setting is wrong; correct it"), ZeroDivisionError("inside")]
)
def test_a_worker_that_cannot_load_is_not_tried_without_end(
    tmp_path: Path,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def failing(config: object) -> None:
        raise fault

    monkeypatch.setattr(server, "Service", failing)
    monkeypatch.setenv(server.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setenv(server.WORK_VARIABLE, json.dumps([str(write_config(tmp_path)), [], {}]))
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        server.worker_app()
    assert ended.value.code == STARTUP_FAILURE
    assert str(fault) in capsys.readouterr().err + caplog.text
    assert signal.getsignal(signal.SIGTERM) is before
