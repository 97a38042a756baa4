"""The quickstart as a user starts it, with a handful of training steps and queries: every step leaves what it promises."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from gemkr.cli import main
from gemkr.cli.quickstart import Quickstart, StepError
from gemkr.cli.quickstart_folder import claim_folder
from gemkr.cli.quickstart_rows import SCENES
from gemkr.data.records import read_records
from gemkr.data.trec import read_run
from gemkr.files import lock


def test_the_results_have_every_row_and_metric(quickstart_folder: Path) -> None:
    results = json.loads((quickstart_folder / "results.json").read_text())
    rows = {"full", "no_regions", "no_picture", "no_index", "bm25", "fusion", "preflmr"}
    rows |= {"find_scenes", "find_scenes_vlm"}
    assert rows <= results["rows"].keys()
    for name, row in results["rows"].items():
        assert row["queries"] == 16 or (name in SCENES and row["queries"] > 5)
        assert 0 <= row["P@5"] <= row["S@5"] <= 1
        assert row["S@1"] <= row["S@5"]
    assert results["rows"]["find_scenes"]["S@1"] > 0.7  # by a model that is not trained here
    assert results["seconds"]["total"] > 0


def test_the_run_names_real_documents_with_real_evidence(quickstart_folder: Path) -> None:
    run = read_run(quickstart_folder / "run.trec")
    rankings = list(read_records(quickstart_folder / "eval" / "full" / "gemkr" / "run.jsonl"))
    assert len(run) == len(rankings) == 16
    texts = dict(
        line.split(",", 1)
        for line in (quickstart_folder / "data" / "corpus.csv").read_text().splitlines()[1:]
        if line
    )
    for ranking in rankings:
        assert ranking.clues
        for hit in ranking.hits:
            assert hit.evidence
            for evidence in hit.evidence:
                assert evidence.text in texts[hit.doc_id].replace('""', '"')


def test_the_report_needs_no_network(quickstart_folder: Path) -> None:
    report = (quickstart_folder / "report.html").read_text(encoding="utf-8")
    assert "gemkr quickstart" in report
    assert report.count("data:image/jpeg;base64,") == 16
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", report)


def test_an_output_that_cannot_be_written_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["quickstart", "-o", str(tmp_path / "file" / "run")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_somebody_elses_folder_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious.csv").write_text("kid,text\n")
    assert main(["quickstart", "-o", str(tmp_path)]) == 1
    assert "already holds 'data'" in capsys.readouterr().err
    assert (tmp_path / "data" / "precious.csv").exists()


def test_two_do_not_run_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim_folder(tmp_path, 0)
    (tmp_path / "data").mkdir()
    with lock(tmp_path / "quickstart.lock"):
        assert main(["quickstart", "-o", str(tmp_path)]) == 1
    assert "another process is writing into" in capsys.readouterr().err
    assert (tmp_path / "data").is_dir()


def test_a_stopped_quickstart_may_be_started_again(tmp_path: Path) -> None:
    claim_folder(tmp_path, 0)
    (tmp_path / "data").mkdir()
    claim_folder(tmp_path, 1)
    assert json.loads((tmp_path / "quickstart.json").read_text()) == {"seed": 1}


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stop(self: Quickstart) -> None:
        assert os.environ["GEMKR_QUICKSTART"] == str(tmp_path)
        raise StepError(3)

    monkeypatch.setattr(Quickstart, "_prepare", stop)
    for before in (None, "elsewhere"):
        if before is not None:
            monkeypatch.setenv("GEMKR_QUICKSTART", before)
        assert Quickstart(tmp_path).run() == 3
        assert os.environ.get("GEMKR_QUICKSTART") == before


def test_asking_without_a_quickstart_names_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GEMKR_QUICKSTART", raising=False)
    monkeypatch.chdir(tmp_path)
    assert main(["ask", "quickstart", "What?"]) == 1
    assert (
        "there is no quickstart in runs/quickstart; run `gemkr quickstart` here first"
        in capsys.readouterr().err
    )
