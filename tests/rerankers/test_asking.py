"""Rerankers that ask a language model, against its plain forward over a prompt written out by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_asking import DOCUMENTS, MODEL, write_config, write_material
from transformers import AutoModelForCausalLM

from gemkr.config.files import load_config
from gemkr.errors import DataError, ModelError
from gemkr.evaluation.config import EvalConfig
from gemkr.rerankers.candidates import Candidate
from gemkr.rerankers.listwise import ListwiseScorer, cut, numbered, windows
from gemkr.rerankers.yes_no import YesNoScorer
from gemkr.text.tokenizer import as_written, load_tokenizer
from gemkr.types import Document, Hit, Query, Ranking

YES_NO = {"kind": "yes_no", "model": MODEL}
LISTWISE = {"kind": "listwise", "model": MODEL}
LIKELIHOOD = {"kind": "query_likelihood", "model": MODEL}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_material(tmp_path_factory.mktemp("asking"))


def build(folder: Path, reranker: dict):
    sources = load_config(write_config(folder, reranker), EvalConfig).sources()
    return sources.part(sources.sections["again"].config.reranker), sources


def plain_logits(folder: Path, prompt: str, answers: list[str]) -> np.ndarray:
    """The logits of single pieces behind a prompt, by transformers alone."""
    tokenizer = as_written(load_tokenizer(folder / "llm"))
    ids = {tokenizer.piece(token): token for token in range(tokenizer.vocab_size)}
    model = AutoModelForCausalLM.from_pretrained(folder / "llm").eval()
    with torch.no_grad():
        logits = model(torch.tensor([[tokenizer.bos_id, *tokenizer.encode(prompt)]])).logits[0, -1]
    return logits[[ids[piece] for piece in answers]].double().numpy()


def ranking(*docs: int) -> Ranking:
    return Ranking("q0", tuple(Hit(f"d{doc}", 1.0 / (rank + 1)) for rank, doc in enumerate(docs)))


def test_yes_no_is_the_softmax_of_two_logits(folder: Path) -> None:
    reranker, sources = build(folder, YES_NO)
    query = sources.queries[0]
    scores = reranker.scorer.score(query, np.arange(4))
    for doc in range(4):
        prompt = (
            f"Question: {query.question} \nPassage: {DOCUMENTS[doc]} "
            "\nDoes this passage help to answer the question? Answer Yes or No. \nAnswer:"
        )
        powers = np.exp(plain_logits(folder, prompt, ["▁Yes", "▁No"]))
        assert scores[doc] == pytest.approx(powers[0] / powers.sum(), abs=1e-5)
    assert np.ptp(scores) > 0.01


def test_listwise_is_the_softmax_of_the_numbers(folder: Path) -> None:
    reranker, sources = build(folder, LISTWISE)
    query = sources.queries[1]
    scores = reranker.scorer.score(query, np.array([3, 0, 2]))
    passages = f"(1) {DOCUMENTS[3]} (2) {DOCUMENTS[0]} (3) {DOCUMENTS[2]}"
    prompt = (
        f"Question: {query.question} \nPassages: {passages} "
        "\nThe passage that helps most to answer the question is ("
    )
    powers = np.exp(plain_logits(folder, prompt, ["1", "2", "3"]))
    np.testing.assert_allclose(scores, powers / powers.sum(), atol=1e-5)
    assert np.ptp(scores) > 0.01


def test_query_likelihood_is_the_mean_log_probability_of_the_question(folder: Path) -> None:
    reranker, sources = build(folder, LIKELIHOOD)
    query, tokenizer = sources.queries[0], as_written(load_tokenizer(folder / "llm"))
    model = AutoModelForCausalLM.from_pretrained(folder / "llm").eval()
    scores = reranker.scorer.score(query, np.arange(5))
    count = len(tokenizer.encode(query.question))
    for doc in range(5):
        text = f"Passage: {DOCUMENTS[doc]} \nPlease write a question based on this passage. \nQuestion: {query.question}"
        tokens = torch.tensor([[tokenizer.bos_id, *tokenizer.encode(text)]])
        with torch.no_grad():
            known = model(tokens).logits[0].log_softmax(dim=-1)
        own = known[:-1].gather(1, tokens[0, 1:, None])[-count:, 0]
        assert scores[doc] == pytest.approx(float(own.mean()), abs=1e-4)
    assert np.ptp(scores) > 0.01
    given = reranker.scorer.score(Query("q", "the fox", instruction="where lives"), np.arange(3))
    np.testing.assert_array_equal(
        given, reranker.scorer.score(Query("q", "where lives the fox"), np.arange(3))
    )


def test_a_prompt_must_end_in_the_question(folder: Path) -> None:
    (folder / "early.txt").write_text("{question}\n<ImageHere>\n{passage}\n")
    query = Query("q0", "where does the fox live and why")
    bare = build(folder, LIKELIHOOD)[0].scorer.asked.prompts(query, passage="").text_length
    early = {**LIKELIHOOD, "model": {**MODEL, "prompt": {"template": "early.txt"}}}
    for kind in (early, {**LIKELIHOOD, "max_prompt_tokens": bare - 1}):
        with pytest.raises(ModelError, match=r"'q0' ends otherwise; let the template end in \{question\}"):
            build(folder, kind)[0].scorer.score(query, np.arange(2))


def test_batches_do_not_change_yes_no(folder: Path) -> None:
    reranker, sources = build(folder, YES_NO)
    one = YesNoScorer(reranker.scorer.asked, sources.documents, batch_size=1)
    docs = np.array([5, 11, 0, 7, 3, 9])
    scores = reranker.scorer.score(sources.queries[0], docs)
    np.testing.assert_allclose(scores, one.score(sources.queries[0], docs), atol=1e-6)
    np.testing.assert_allclose(scores[::-1], reranker.scorer.score(sources.queries[0], docs[::-1]), atol=1e-6)


@pytest.mark.parametrize("kind", [YES_NO, LISTWISE])
def test_an_instruction_stands_before_the_question(folder: Path, kind: dict) -> None:
    scorer, docs = build(folder, kind)[0].scorer, np.arange(3)
    given = scorer.score(Query("q", "the fox", instruction="where lives"), docs)
    np.testing.assert_array_equal(given, scorer.score(Query("q", "where lives the fox"), docs))
    assert np.abs(given - scorer.score(Query("q", "the fox"), docs)).max() > 1e-4


@pytest.mark.parametrize("kind", [YES_NO, LISTWISE, LIKELIHOOD])
def test_tidied_texts_are_read_as_lamra_reads_them(folder: Path, kind: dict) -> None:
    """Of documents, and of queries behind their instruction: a capital first, a full stop last."""
    docs, asked = np.arange(3), Query("q", "the fox", instruction="where lives")
    found = build(folder, {**kind, "tidy": True})[0].scorer.score(asked, docs)
    plain = build(folder, kind)[0].scorer
    assert np.abs(found - plain.score(asked, docs)).max() > 1e-4
    plain.documents = [Document(f"d{n}", f"T{text[1:]}.") for n, text in enumerate(DOCUMENTS)]
    by_hand = plain.score(Query("q", "Where lives. the fox."), docs)
    np.testing.assert_array_equal(found, by_hand)


@pytest.mark.parametrize("kind", [YES_NO, LISTWISE, LIKELIHOOD])
def test_hits_are_ordered_by_score_and_retrieval_has_its_share(folder: Path, kind: dict) -> None:
    reranker, sources = build(folder, kind)
    query, hits = sources.queries[0], ranking(5, 11, 0, 7)
    by_model = {hit.doc_id: hit.score for hit in reranker.rerank(query, hits).hits}
    assert list(by_model.values()) == sorted(by_model.values(), reverse=True)
    mixing, _ = build(folder, {**kind, "retrieval_weight": 0.25})
    mixed = {hit.doc_id: hit.score for hit in mixing.rerank(query, hits).hits}
    low, high = min(by_model.values()), max(by_model.values())
    for hit in hits.hits:
        expected = 0.25 * (hit.score - 0.25) / 0.75 + 0.75 * (by_model[hit.doc_id] - low) / (high - low)
        assert mixed[hit.doc_id] == pytest.approx(expected, abs=1e-5)
    whole, _ = build(folder, {**kind, "retrieval_weight": 1.0})
    assert [hit.doc_id for hit in whole.rerank(query, hits).hits] == [hit.doc_id for hit in hits.hits]
    assert reranker.rerank(query, Ranking("q0", ())).hits == ()


class Prefers:
    """Stands for an `Asked` of `window` numbers over documents named by how good they are."""

    def __init__(self, window: int) -> None:
        self.answers, self.window, self.shown = list(range(window)), window, 0
        self.sees_documents = False
        self.tidied = False
        self.tokenizer = SimpleNamespace(encode_with_offsets=lambda text: ([], np.zeros(1, np.int64)))

    def prompts(self, query: Query, passage: str, images: list = ()) -> SimpleNamespace:
        values = [float(word) for word in passage.split() if "(" not in word]
        return SimpleNamespace(text_length=0, values=values)

    def logits(self, prompts: list) -> np.ndarray:
        self.shown += 1
        return np.array([(prompts[0].values + [99.0] * self.window)[: self.window]])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40, unique=True), st.integers(2, 9))
def test_windows_move_the_best_up_and_keep_every_document(goods: list[int], window: int) -> None:
    documents = [SimpleNamespace(doc_id=str(good), contents=str(good), image=None) for good in range(51)]
    asked = Prefers(window)
    scores = ListwiseScorer(asked, documents).score(Query("q", "x"), np.array(goods))
    order = [goods[i] for i in np.argsort(-scores, kind="stable")]
    assert sorted(order) == sorted(goods)
    top = window if len(goods) <= window else window - max(window // 2, 1)
    assert order[:top] == sorted(goods, reverse=True)[:top]
    if len(goods) > window:
        starts = windows(len(goods), window)
        assert asked.shown == len(starts)
        assert starts[-1] == 0
        assert len(set(scores.tolist())) == len(goods)


def test_more_hits_than_a_window(folder: Path) -> None:
    reranker, sources = build(folder, {**LISTWISE, "window": 3})
    hits = reranker.rerank(sources.queries[0], ranking(*range(8))).hits
    assert sorted(hit.doc_id for hit in hits) == [f"d{doc}" for doc in range(8)]
    assert [hit.score for hit in hits] == pytest.approx([1 - i / 8 for i in range(8)])


def test_every_passage_has_its_share_of_a_prompt(folder: Path) -> None:
    reranker, sources = build(folder, {**LISTWISE, "max_prompt_tokens": 140})
    scorer, query = reranker.scorer, sources.queries[0]
    texts = [DOCUMENTS[11] * 3, DOCUMENTS[1], DOCUMENTS[10] * 3]
    sample = scorer.prompt(query, [Candidate(text) for text in texts]).sample
    assert len(sample.tokens) <= 140
    text = load_tokenizer(folder / "llm").decode(sample.tokens)
    for number, words in ((1, "the crow"), (2, "the hen lives in the wood and eats"), (3, "the seal")):
        assert f"({number}) {words}" in text
    tokenizer = scorer.asked.tokenizer
    for most in range(1, 30):
        head = cut(tokenizer, DOCUMENTS[9], most)
        assert DOCUMENTS[9].startswith(head)
        if most > 4:
            assert len(tokenizer.encode(head)) <= most
            assert head == DOCUMENTS[9] or DOCUMENTS[9][len(head)] == " "
    assert numbered(["a", ""]) == "(1) a (2)"
    unspaced = f"the {'otter' * 40}"
    assert len(cut(tokenizer, unspaced, 30)) > 30


@pytest.mark.parametrize(
    ("reranker", "sentence"),
    [
        ({**YES_NO, "yes": "Absolutely"}, "the reranker yes_no reads the logit of 'Absolutely', which must be one token"),
        ({**YES_NO, "yes": "No"}, "the answers 'No' and 'No' of the reranker yes_no are one token; set yes and no"),
        ({**LISTWISE, "window": 12}, "the reranker listwise reads the logit of '10', which must be one token"),
        ({**YES_NO, "model": {**MODEL, "prompt": {"template": "short"}}}, "the prompt template short has no {passage}, so that the reranker yes_no"),
        ({**LISTWISE, "max_prompt_tokens": 20}, "has no room for 5 passages beside the query 'q0'"),
    ],
)  # fmt: skip
def test_bad_settings_are_one_sentence(folder: Path, reranker: dict, sentence: str) -> None:
    def rerank() -> None:
        made, sources = build(folder, reranker)
        made.rerank(sources.queries[0], ranking(0, 1, 2, 3, 4))

    with pytest.raises(ModelError) as error:
        rerank()
    assert sentence in str(error.value)


@pytest.mark.parametrize("kind", [YES_NO, LISTWISE])
def test_a_hit_without_text_is_named(folder: Path, kind: dict) -> None:
    reranker, sources = build(folder, kind)
    bare = Ranking("q0", (Hit("d1", 2.0), Hit("bare", 1.0)))
    with pytest.raises(DataError, match=r"the document 'bare', a hit of the query 'q0', has no text"):
        reranker.rerank(sources.queries[0], bare)
