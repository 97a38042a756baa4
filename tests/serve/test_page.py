"""The page as a person uses it, in a real browser, over the sample's retriever after a short quickstart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from serve.browser import Watched, chromium
from serve.live import listening
from serve.tiny_service import STRANGE, tiny_service

from gemkr.config.files import load_config
from gemkr.config.packaged import find_config
from gemkr.evaluation.config import EvalConfig
from gemkr.serve.service import Service

PAGE = Path(__file__).resolve().parents[2] / "gemkr" / "serve" / "page"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def url(browser, quickstart_folder: Path) -> Iterator[str]:
    patch = pytest.MonkeyPatch()
    patch.setenv("GEMKR_QUICKSTART", str(quickstart_folder))
    config = load_config(find_config("quickstart", "eval"), EvalConfig, [])
    patch.undo()
    with listening(Service(config)) as url:
        yield url


@pytest.fixture
def watched(browser, url: str) -> Iterator[Watched]:
    watched = Watched(browser, url, viewport={"width": 1200, "height": 900})
    yield watched
    watched.page.context.close()
    assert watched.faults == []


def ask(watched: Watched, question: str, answers: int = 1) -> None:
    watched.page.fill("#question", question)
    watched.page.click("#submit")
    watched.answered(answers)


def test_a_sample_photo_is_asked_about_and_then_a_part_of_it(watched: Watched) -> None:
    page = watched.open()
    page.locator("#samples button").first.click()
    page.locator("#boxes button").first.wait_for()
    ask(watched, "What is the capital of the country whose flag hangs on the left?")
    assert page.locator(".doc mark").first.inner_text()
    assert page.locator(".clues button").count() > 2
    assert re.fullmatch(r"\d passages? found", page.inner_text("#status"))
    whole = page.locator(".clues").inner_text()
    page.locator("#boxes button").last.click()
    assert page.inner_text("#photo-hint") == "The question is about this part alone."
    page.keyboard.press("/")
    ask(watched, "What is the capital of the country with this flag?")
    assert page.locator(".clues").inner_text() != whole
    page.keyboard.press("Escape")
    assert page.locator("#boxes button[aria-pressed=true]").count() == 0
    edges = page.locator("#frame").bounding_box()
    page.mouse.move(edges["x"] + 20, edges["y"] + 20)
    page.mouse.down()
    page.mouse.move(edges["x"] + 150, edges["y"] + 120, steps=4)
    page.mouse.up()
    assert page.locator("#boxes .drawn").count() == 1
    assert "box=" in page.url


def test_the_address_carries_the_question_and_two_retrievers_stand_side_by_side(watched: Watched) -> None:
    page = watched.open("/?q=What+is+the+currency+of+Japan%3F&with=bm25&k=3")
    watched.answered(2)
    assert page.input_value("#question") == "What is the currency of Japan?"
    assert page.locator(".answer").count() == 2
    assert page.locator(".answer").last.locator(".doc").count() == 3
    page.set_input_files("#file", {"name": "p.png", "mimeType": "image/png", "buffer": _png()})
    page.locator("#frame").wait_for()
    ask(watched, "What is it?", 2)
    assert "does not look at pictures" in page.locator(".answer").last.inner_text()


def test_the_clue_tree_is_walked_by_clicks_and_keys(watched: Watched) -> None:
    page = watched.open()
    page.fill("#typed", "The")
    page.press("#typed", "Enter")
    page.locator("#path button").nth(1).wait_for()
    for depth in range(2, 9):
        page.locator("#next button").first.click()
        page.locator("#path button").nth(depth).wait_for()
        if page.locator("#tree-documents .doc").count():
            break
    assert page.locator("#tree-documents mark").first.inner_text().startswith("The")
    assert re.search(r"stands in \d documents?, \d times?", page.inner_text("#left"))
    page.press("#typed", "Backspace")
    page.locator("#path button").nth(depth).wait_for(state="detached")
    page.locator("#path button").first.click()
    page.get_by_text("possible beginnings").wait_for()


def test_a_wrong_file_is_answered_kindly(watched: Watched) -> None:
    page = watched.open()
    page.set_input_files(
        "#file", {"name": "holiday.jpg", "mimeType": "image/jpeg", "buffer": b"<html>no picture"}
    )
    page.get_by_text("is no picture of a known format").wait_for()
    page.click("#submit")
    assert page.inner_text("#status") == "Write a question, or choose a photo."
    ask(watched, "What is the capital of Peru?")
    assert page.locator(".doc").count() == 5


def test_nothing_serious_stands_in_anybodys_way(browser, url: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    for scheme in ("light", "dark"):
        watched = Watched(
            browser, url, color_scheme=scheme, viewport={"width": 390, "height": 800}, bypass_csp=True
        )
        page = watched.open("/?q=What+is+the+currency+of+Japan%3F&picture=test-0000&with=bm25")
        watched.answered(2)
        found = axe.Axe().run(page).response["violations"]
        serious = [
            f"{one['id']}: {one['nodes'][0]['html']}"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.context.close()
        assert watched.faults == []


def test_a_passage_is_text_whatever_it_holds(browser, tmp_path: Path) -> None:
    with listening(tiny_service(tmp_path)) as url:
        watched = Watched(browser, url)
        page = watched.open("/?q=flag+of+Chad&retriever=bm25")
        watched.answered()
        assert page.locator(".doc p").first.inner_text() == STRANGE
        assert page.locator("#answers script").count() == 0
        assert "stays as it is" in page.inner_text("#read-only")
        page.context.close()
    assert watched.faults == []


def test_the_page_names_no_other_host() -> None:
    for path in PAGE.iterdir():
        links = re.findall(r"https?://[^\s\"'<>)]+", path.read_text(encoding="utf-8"))
        assert set(links) <= {"http://www.w3.org/2000/svg"}, path.name


def _png() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (120, 80), "red").save(out, "PNG")
    return out.getvalue()
