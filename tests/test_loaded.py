"""Questions about pictures that were never in a store: `gemkr.load` and `gemkr ask` after a quickstart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gemkr
from gemkr.cli import main
from gemkr.data.queries import read_queries
from gemkr.data.records import read_records
from gemkr.errors import ConfigError, DataError, VisionError
from gemkr.types import Query
from gemkr.vision.store import RegionStore


@pytest.fixture
def folder(quickstart_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quickstart's folder, where the packaged configuration finds it."""
    monkeypatch.setenv("GEMKR_QUICKSTART", str(quickstart_folder))
    return quickstart_folder


@pytest.fixture
def loaded(folder: Path) -> gemkr.LoadedRetriever:
    return gemkr.load("quickstart")


def test_a_picture_at_question_time_is_answered_as_one_of_the_store(
    folder: Path, loaded: gemkr.LoadedRetriever
) -> None:
    """Features to the last byte; scores within what a batch of one and one of sixteen differ by."""
    store = RegionStore.open(folder / "regions")
    queries = {query.query_id: query for query in read_queries(folder / "data" / "test.jsonl")}
    offline = list(read_records(folder / "eval" / "full" / "gemkr" / "run.jsonl"))
    for expected in offline[:6]:
        query = queries[expected.query_id]
        (picture,) = (folder / "data" / "images").glob(f"{query.image}.*")
        image_id = loaded.online.add(picture)
        ours, theirs = loaded.online.regions.get(image_id), store.get(query.image)
        assert ours.features.tobytes() == theirs.features.tobytes()
        assert np.array_equal(ours.boxes, theirs.boxes)
        ranking = loaded.ask(query.question, picture, k=len(expected.hits))
        assert [hit.doc_id for hit in ranking.hits] == [hit.doc_id for hit in expected.hits]
        assert [hit.score for hit in ranking.hits] == pytest.approx(
            [hit.score for hit in expected.hits], abs=1e-4
        )
        assert [[e.text for e in hit.evidence] for hit in ranking.hits] == [
            [e.text for e in hit.evidence] for hit in expected.hits
        ]


def test_hits_carry_their_passages(folder: Path, loaded: gemkr.LoadedRetriever) -> None:
    (hit, *_) = loaded.ask("What is the capital?", folder / "data" / "images" / "test-0000.jpg").hits
    assert hit.text
    assert hit.text == loaded.sources.documents.by_id(hit.doc_id).text == hit.document.text
    assert hit.evidence[0].text in hit.text


def test_forms_of_one_picture_and_one_without(folder: Path, loaded: gemkr.LoadedRetriever) -> None:
    path = folder / "data" / "images" / "test-0001.jpg"
    as_file = loaded.ask("What is the capital?", str(path)).hits
    as_bytes = loaded.ask("What is the capital?", path.read_bytes()).hits
    with Image.open(path) as picture:
        decoded = loaded.ask("What is the capital?", picture).hits
    assert as_file == as_bytes == decoded
    assert loaded.ask("What is the capital?").hits != as_file
    (only,) = loaded.ask("What is the capital?", path, k=1).hits
    assert only == as_file[0]


def test_many_queries_without_a_file_of_them(loaded: gemkr.LoadedRetriever) -> None:
    stored = Query("a", "What is the capital?", image="test-0002")
    plain = Query("b", "What is the currency of Japan?")
    rankings = list(loaded.retrieve([stored, plain], 3))
    assert [ranking.query_id for ranking in rankings] == ["a", "b"]
    assert all(hit.text for ranking in rankings for hit in ranking.hits)


def test_a_retriever_that_does_not_use_pictures(folder: Path) -> None:
    bm25 = gemkr.load("quickstart", retriever="bm25")
    (hit, *_) = bm25.ask("Once called Edo, it is the centre of a huge urban area").hits
    assert hit.doc_id == "japan-capital"
    with pytest.raises(VisionError, match="'bm25' does not use pictures"):
        bm25.ask("What is this?", picture=folder / "data" / "images" / "test-0002.jpg")


def test_what_cannot_be_answered_is_one_sentence(
    folder: Path, loaded: gemkr.LoadedRetriever, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="no retriever is called 'nope'"):
        gemkr.load("quickstart", retriever="nope")
    with pytest.raises(ConfigError, match="is called 'nothing'"):
        gemkr.load("nothing")
    with pytest.raises(DataError, match="has no question and no picture"):
        loaded.ask("")
    (tmp_path / "page.jpg").write_text("<html>")
    with pytest.raises(VisionError, match=r"page\.jpg cannot be read: it is no picture"):
        loaded.ask("What is it?", tmp_path / "page.jpg")
    with pytest.raises(VisionError, match="not a value of type int"):
        loaded.ask("What is it?", 7)


def test_other_detector_settings_than_the_stores_are_refused(folder: Path) -> None:
    weights = json.loads((folder / "boxes.jsonl").read_text().splitlines()[0])["weights"]["file"]
    detector = f"detector={{weights: {weights}, regions: 3, confidence: 0.2, image_size: 192}}"
    with pytest.raises(VisionError, match=r"confidence 0\.4, not 0\.2"):
        gemkr.load("quickstart", [detector])


def test_the_command_answers_about_a_scene_and_a_photo_of_ones_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = folder / "data" / "images" / "test-0000.jpg"
    assert main(["ask", "quickstart", "What is the capital?", "--picture", str(scene), "-k", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("clues: ")
    assert [line[:3] for line in shown.splitlines() if line[:1].isdigit()] == ["1. ", "2. "]
    assert "**" in shown
    photo = tmp_path / "my holiday.png"
    Image.new("RGBA", (300, 200), "white").save(photo)
    command = ["ask", "quickstart", "Where is it?", "--picture", str(photo), "--json", "-k", "1"]
    assert main(command) == 0
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert hit["evidence"][0]["text"] in hit["text"]


def test_the_command_names_what_is_wrong(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "quickstart", "What?", "--picture", "no such.jpg"]) == 1
    assert "no such.jpg cannot be read" in capsys.readouterr().err
    assert main(["ask", "quickstart", "What?", "--retriever", "bm52"]) == 1
    assert "no retriever is called 'bm52'; there are gemkr, free_text, bm25" in capsys.readouterr().err
