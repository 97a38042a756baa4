"""The report: self-contained, safe against what texts may hold, and true to its data."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gemkr.cli.ask import as_text, marked
from gemkr.errors import DataError
from gemkr.evaluation.answer_evaluation import Abstention, AnswerEvaluation
from gemkr.evaluation.answer_metrics import score_answers
from gemkr.evaluation.answer_runs import AnswerRun
from gemkr.evaluation.metrics import Scores
from gemkr.evaluation.report.answers import answers_section
from gemkr.evaluation.report.card_html import excerpt
from gemkr.evaluation.report.cards import Box, Matched, choose_queries, clue_ranges, make_card
from gemkr.evaluation.report.page import Row, duration, write_report
from gemkr.evaluation.risk import risk_coverage
from gemkr.evaluation.significance import paired_test
from gemkr.fm_index import Span
from gemkr.testing import ToyTokenizer, toy_corpus
from gemkr.text.tokenizer import NormalizedTokenizer
from gemkr.types import Answer, Clue, Document, Evidence, Hit, Query, Ranking

VOID = {"meta", "img", "input", "rect", "br"}


class Balance(HTMLParser):
    """Fails on a tag that is closed but not open; `open` is empty for a well-formed page."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def toy_card(picture: Path | None = None, question: str = "Where is Paris ?"):
    documents = {document.doc_id: document for document in toy_corpus()}
    tokenizer = ToyTokenizer(document.contents for document in documents.values())
    ranking = Ranking(
        "q1",
        (
            Hit("d0", 0.9, (Evidence("Paris is the", -0.1, 0, 3), Evidence("the capital of", -1.0, 2, 5))),
            Hit("d2", 0.2),
        ),
        (Clue((3,), "less likely", -2.0, 0.0, Span(0, 1)), Clue((4,), "Paris is the", -0.1, 0.0, Span(1, 2))),
    )
    return make_card(
        Query("q1", question, "scene", caption="a <caption>", detections=("flag",), answers=("France",)),
        ranking,
        documents,
        {"d0": 1, "d2": 0},
        tokenizer=tokenizer,
        match="word",
        picture=picture,
        boxes=[Box(0.1, 0.2, 0.5, 0.9, "flag", 0.93)],
    )


def test_a_card_knows_places_verdict_and_order_of_clues() -> None:
    card = toy_card()
    first, second = card.documents
    text = first.document.contents
    assert [text[a:b] for a, b in first.clue] == ["Paris is the capital of"]
    assert [text[a:b] for a, b in first.answer] == ["France"]
    assert (first.relevant, second.relevant, second.clue) == (True, False, ())
    assert card.right
    assert [text for text, _ in card.clues] == ["Paris is the", "less likely"]


def test_the_section_of_answers_draws_risk_against_coverage() -> None:
    answers = ["fox", "hen", "owl", "bear"]
    queries = [Query(str(i), "which?", answers=(answer, f"{answer} <b>")) for i, answer in enumerate(answers)]
    right = {str(i): Answer(str(i), answer, "d0", -float(i)) for i, answer in enumerate(answers)}
    wrong = {**right, "3": Answer("3", "cat", None, -9.0)}
    runs = {"<ours>": AnswerRun(wrong, 0, 1.0), "oracle": AnswerRun(right, 0, 1.0)}
    rows = {name: score_answers(run.answers, queries) for name, run in runs.items()}
    curves = {
        name: Abstention(risk_coverage(np.array([0.0, -1, -2, -9]), scores.values["EM"]), False, 1.0)
        for name, scores in rows.items()
    }
    tests = {"oracle": {"EM": paired_test(rows["oracle"].values["EM"], rows["<ours>"].values["EM"])}}
    found = AnswerEvaluation(runs, rows, tests, curves)
    html = answers_section(found)
    parser = Balance()
    parser.feed(html)
    assert (parser.open, parser.tags.count("polyline")) == ([], 2)
    assert "&lt;ours&gt;: area .062" in html
    assert "From &lt;ours&gt; against oracle, paired randomization test: EM -0.250" in html
    first, second = re.findall(r'<polyline points="([^"]*)"', html)
    heights = [float(point.split(",")[1]) for point in first.split()]
    assert heights[:3] == [heights[0]] * 3
    assert heights[3] < heights[0]  # upwards
    assert len({point.split(",")[1] for point in second.split()}) == 1
    plain = found.to_json()
    assert plain["rows"]["oracle"]["EM"] == 1.0
    assert plain["abstention"]["<ours>"]["curve"][-1] == [1.0, 0.25]


def test_clue_ranges_leave_white_space_out() -> None:
    tokenizer = ToyTokenizer(["Lima is far"])
    assert clue_ranges("Lima is far", [Evidence("is", -1, 1, 2)], tokenizer) == [(5, 7)]
    assert clue_ranges("Lima is far", [Evidence("?", -1, 2, 9)], tokenizer) == []


def test_clues_are_marked_in_the_text_as_it_was_written() -> None:
    tokenizer = NormalizedTokenizer(ToyTokenizer(["Lima is très far"]))
    text = " Lima \r\n is\ttre\u0300s  far"
    (found,) = clue_ranges(text, [Evidence("is très", -1, 1, 3)], tokenizer)
    assert text[slice(*found)] == "is\ttre\u0300s"
    hit = Hit("d", 1.0, (Evidence("is très", -1, 1, 3),), Document("d", text))
    assert marked(hit) == " Lima \r\n **is\ttre\u0300s**  far"


def test_a_marked_clue_is_a_whole_word_in_any_case_where_there_is_one() -> None:
    """A vocabulary that folds case writes "riga"; "a" stands inside "was" first. `ask` prints odd white space as spaces."""

    def hit(text: str, *clues: str) -> Hit:
        return Hit("d", 1.0, tuple(Evidence(clue, -1, 0, 1) for clue in clues), Document("d", text))

    assert marked(hit("It was in Riga.", "riga", "a")) == "It was in **Riga**."
    assert marked(hit("It was a kite", "nowhere", "a")) == "It was **a** kite"
    assert marked(hit("the cityscape", "city")) == "the **city**scape"
    assert marked(hit("(a+b) is C++", "c++", "(a")) == "(a+b) is **C++**"
    odd = hit("The\x85kite\u2028was\u3000red ", "kite")
    assert as_text(Ranking("q", (odd,)))[1:] == ["   The **kite** was red"]


def test_the_page_is_one_balanced_file_that_fetches_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "scene.png"
    Image.new("RGB", (900, 600), "navy").save(picture)
    scores = Scores(("a", "b"), {"S@1": np.array([1.0, 0.0]), "P@5": np.array([0.2, 0.4])})
    rows = [Row.of("full", scores, "everything"), Row("bm25", {"S@1": (0.1, 0.0, 0.2)})]
    evil = "<script>alert('x')</script> $title & \"quotes\""
    path = tmp_path / "report.html"
    write_report(path, evil, rows, [toy_card(picture, evil)], {"index": 3.0}, [evil], subtitle=evil)
    html = path.read_text(encoding="utf-8")
    page = Balance()
    page.feed(html)
    assert page.open == []
    assert page.tags.count("script") == 1
    assert page.tags.count("article") == 1
    assert page.tags.count("rect") == 1
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)|url\(|@import|https?://""", html)
    assert len(re.findall(r"data:image/jpeg;base64,", html)) == 1
    assert 'viewBox="0 0 420 280"' in html
    assert "<mark" in html
    assert "flag .93" in html
    assert "all <b>1</b>" in html


@pytest.mark.parametrize(
    ("kept", "words"),
    [((), []), (("clue",), ["clue"]), (("answer",), ["answer"]), (("matched",), ["token"]),
     (("clue", "answer", "matched"), ["clue", "answer", "token"])],
)  # fmt: skip
def test_the_legend_explains_the_marks_that_are_shown(
    tmp_path: Path, kept: tuple[str, ...], words: list[str]
) -> None:
    """Of late interaction and dense retrieval no document has a clue: their legends do not speak of any."""
    card = toy_card()
    first = replace(card.documents[0], matched=(Matched(0, 5, 1.0, "Paris 0.50"),))
    off = {name: () for name in ("clue", "answer", "matched") if name not in kept}
    cards = [replace(card, documents=(replace(card.documents[1], answer=()),)) for _ in range(2)]
    cards[1] = replace(card, documents=(replace(first, **off),))
    write_report(tmp_path / "r.html", '<mark class="clue">', [], cards, {})
    html = (tmp_path / "r.html").read_text()
    legends = re.findall(r'<p class="legend">(.*)</p>', html)
    assert [re.findall(r"<mark [^>]*>(\w+)</mark>", legend) for legend in legends] == [words][: len(words)]
    assert not any(legend.startswith(" ·") or legend.endswith("· ") for legend in legends)


@pytest.mark.parametrize("error", [None, ModuleNotFoundError("pi_heif")], ids=["pillow", "ultralytics"])
def test_a_picture_that_cannot_be_read_costs_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    """As pillow complains, and as it does once ultralytics has been imported and asks for a HEIF reader."""
    real = Image.open

    def patched(path: Path, **settings: object) -> Image.Image:
        try:
            return real(path, **settings)
        except OSError as wrong:
            raise error or wrong from wrong

    monkeypatch.setattr(Image, "open", patched)
    whole = tmp_path / "whole.png"
    Image.new("RGB", (90, 60), "navy").save(whole)
    (tmp_path / "garbage.png").write_bytes(b"no picture")
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:60])
    cards = [toy_card(tmp_path / f"{name}.png") for name in ("garbage", "half", "absent", "whole")]
    write_report(tmp_path / "r.html", "t", [], cards, {})
    html = (tmp_path / "r.html").read_text()
    assert html.count("the picture scene cannot be read") == 3
    assert html.count("data:image/jpeg;base64,") == 1
    assert html.count("the capital of") >= 4


def test_a_report_without_cards_or_seconds_is_fine(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "t", [], [], {})
    assert "<main>" in (tmp_path / "r.html").read_text()


def test_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        write_report(tmp_path / "no" / "r.html", "t", [], [], {})


def test_excerpts_hold_their_span_and_cut_at_spaces() -> None:
    text = "word " * 400
    assert excerpt("short", (0, 2)) == (0, 5)
    for low in (0, 300, 900, 1990):
        start, stop = excerpt(text, (low, low + 9))
        assert start <= low
        assert stop >= min(low + 9, len(text))
        assert stop - start <= 480
        assert start == 0 or text[start - 1] == " "


def test_durations() -> None:
    assert [duration(s) for s in (9.44, 192, 7500)] == ["9.4 s", "3 min 12 s", "2 h 05 min"]


@pytest.mark.parametrize(
    ("good", "bad", "most", "shown"), [(50, 50, 10, 5), (2, 50, 10, 2), (50, 3, 10, 7), (3, 3, 10, 3)]
)
def test_right_and_wrong_queries_are_shown_in_equal_parts(good: int, bad: int, most: int, shown: int) -> None:
    right = {f"q{i}": i < good for i in range(good + bad)}
    chosen = choose_queries(right, most, seed=1)
    assert len(chosen) == min(most, good + bad)
    assert sum(right[q] for q in chosen) == shown
    assert chosen == sorted(chosen, key=list(right).index)


def test_documents_with_titles_are_marked_in_what_is_shown() -> None:
    document = Document("a", "It is big .", "Lima")
    tokenizer = ToyTokenizer([document.contents])
    card = make_card(
        Query("q", "?"),
        Ranking("q", (Hit("a", 1.0, (Evidence("is", 0.0, 2, 3),)),)),
        {"a": document},
        {},
        tokenizer=tokenizer,
    )
    ((start, stop),) = card.documents[0].clue
    assert document.contents[start:stop] == "is"
