"""What late interaction found, over HTTP, from the client, on the command line, and as a heat map on the page, of which
GEMKR_SCREENSHOTS=FOLDER keeps a picture.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serve.browser import Watched, chromium
from serve.live import listening
from tiny_flmr import save_tiny_text
from tiny_pictures import save_pictures, save_tiny_clip

from gemkr.cli import main
from gemkr.client import Client, ServiceError
from gemkr.config.files import from_mapping
from gemkr.evaluation.config import EvalConfig
from gemkr.serve.service import Service

ROWS = [
    {"id": "d0", "title": "a cat", "text": "the red cat, one"},
    {"id": "d1", "text": "a big green boat"},
]


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("matches")
    save_tiny_text(home / "bert")
    save_tiny_clip(home / "clip")
    save_pictures(home / "images", ["one", "two"])
    (home / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    encoder = {
        "kind": "preflmr", "text": str(home / "bert"), "vision": str(home / "clip"), "width": 8, "query_tokens": 8,
        "document_tokens": 12, "image_tokens": 2,
    }  # fmt: skip
    retrievers = {"own": {"kind": "late_interaction", "encoder": encoder}, "bm25": {"kind": "bm25"}}
    return {
        "corpus": str(home / "corpus.jsonl"),
        "images": str(home / "images"),
        "retrievers": retrievers,
        "evaluate": ["own"],
    }


@pytest.fixture(scope="module")
def url(values: dict[str, Any]) -> Iterator[str]:
    service = Service(from_mapping(values, EvalConfig, "test"))
    with listening(service) as url:
        yield url


def test_answers_say_what_was_found_where_it_is_asked_for(url: str) -> None:
    client = Client(url)
    assert [(each["name"], each["matches"]) for each in client.retrievers()] == [
        ("own", True),
        ("bm25", False),
    ]
    plain = client.ask("a cat", picture="one")
    found = client.ask("a cat", picture="one", matches=True)
    assert [hit.document for hit in found.hits] == [hit.document for hit in plain.hits]
    assert not any(hit.matches or hit.heat for hit in plain.hits)
    for hit in found.hits:
        assert len(hit.heat) == 4
        assert {weight for _, weight, _ in hit.heat} >= {0.0, 1.0}
        assert all(0 <= start < stop <= len(hit.document.text) for start, stop, _ in hit.matches)
        words = {hit.document.text[start:stop] for start, stop, _ in hit.matches}
        assert words <= set(hit.document.text.replace(",", " ,").split())
        assert all(0 < weight <= 1 for _, _, weight in hit.matches)
    assert any(hit.matches for hit in found.hits)
    assert client.ask("a cat", matches=True).hits[0].heat == ()
    with pytest.raises(ServiceError, match="'bm25' does not compare vectors of tokens; leave matches out"):
        client.ask("a cat", retriever="bm25", matches=True)


def test_the_command_marks_what_was_found(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "ask.yaml").write_text(json.dumps(values))
    assert main(["ask", str(tmp_path / "ask.yaml"), "a boat", "-k", "1", "--json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert hit["matches"]
    assert hit["heat"] == []
    assert sum(vector["score"] for vector in hit["vectors"]) == pytest.approx(hit["score"], abs=0.02)
    assert [vector["name"] for vector in hit["vectors"] if "boat" in vector["name"]] == ["boat"]
    tokens = {vector["token"] for vector in hit["vectors"]} - {""}
    assert {hit["text"][start:stop] for start, stop, _ in hit["matches"]} <= tokens
    photo = ["--picture", str(Path(values["images"]) / "one.png"), "--json"]
    assert main(["ask", str(tmp_path / "ask.yaml"), "a cat", "-k", "1", *photo]) == 0
    (seen,) = json.loads(capsys.readouterr().out)["hits"]
    parts = [vector["box"] for vector in seen["vectors"] if vector["name"] == "patch"]
    assert sorted(parts) == sorted(part["box"] for part in seen["heat"])
    assert main(["ask", str(tmp_path / "ask.yaml"), "a boat", "-k", "1"]) == 0
    shown = capsys.readouterr().out
    start, stop, _ = max(hit["matches"], key=lambda match: match[2])
    assert f"**{hit['text'][start:stop]}**" in shown


def test_the_page_draws_it_over_the_photo(url: str) -> None:
    with chromium() as browser:
        watched = Watched(browser, url, viewport={"width": 1200, "height": 900})
        page = watched.page
        page.goto(url)
        page.locator("#samples button").first.click()
        page.locator("#frame").wait_for()
        page.fill("#question", "a cat")
        page.click("#submit")
        watched.answered(1)
        assert page.locator(".doc mark[style]").count() > 0
        assert page.locator("#boxes .heat").count() == 0
        page.locator("footer button", has_text="heat").first.click()
        assert page.locator("#boxes .heat").count() == 4
        if folder := os.environ.get("GEMKR_SCREENSHOTS"):
            page.screenshot(path=Path(folder) / "matches.png", full_page=True)
        frame, part = page.locator("#frame").bounding_box(), page.locator("#boxes .heat").first.bounding_box()
        assert part["width"] == pytest.approx(frame["width"] / 2, abs=3)
        page.locator("footer button", has_text="heat").last.click()
        assert page.locator("footer button[aria-pressed=true]").count() == 1
        page.locator("footer button", has_text="heat").last.click()
        assert page.locator("#boxes .heat").count() == 0
        page.context.close()
        assert watched.faults == []
