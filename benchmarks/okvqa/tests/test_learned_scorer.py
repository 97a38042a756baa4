"""The learned second scorer: term impacts, its scores by their definition, learning, files, and its place in an evaluation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_encoder import save_tiny_encoder

from benchmarks.okvqa import learned_training, passage_vectors
from benchmarks.okvqa.config import LearnedScorerConfig
from benchmarks.okvqa.fit import main as fit
from benchmarks.okvqa.impacts import TermImpacts
from benchmarks.okvqa.learned_retriever import ScorerRetriever
from benchmarks.okvqa.learned_scorer import LearnedScorer
from gemkr.cli import main
from gemkr.data.documents import DocumentStore
from gemkr.errors import ConfigError, DataError
from gemkr.models.hf.config import PromptConfig, TextEncoderConfig
from gemkr.models.hf.text_encoder import TextReader, load_text_encoder
from gemkr.scorers.bm25 import BM25
from gemkr.types import Document, Query
from gemkr.vector_index.store import VectorWriter, vector_plan

DRINKS = {"cow": "milk", "leaf": "tea", "bean": "coffee"}
WORDS = ["what", "comes", "from", "table", "warm", "fresh", "glass", *DRINKS, *DRINKS.values()]
FILE = "learned_scorer.safetensors"
QUERIES = [
    Query(f"{thing}{i}", f"what comes from a {thing}", caption="a table", answers=(drink,))
    for thing, drink in DRINKS.items()
    for i in range(4)
]
CORPUS = DocumentStore(
    Document(f"d{number}", text)
    for number, text in enumerate(
        [
            "Fresh milk, milk in a glass", "Warm tea", "Coffee is warm", "A glass table", "Fresh milk comes warm",
            "Teas and tea", "The table of teas", "Coffees, coffee, fresh coffee", "A cow", "A leaf and a bean", "the of",
        ]
    )
)  # fmt: skip
WIDTH = 24
EVERY = np.arange(len(CORPUS))


def learned_scorer(
    queries: list[Query], documents: DocumentStore, bm25: BM25, config: LearnedScorerConfig, folder: Path
) -> LearnedScorer:
    """Learned, unless it is there, and read: into the file that the settings name, or one in the folder."""
    config = config if config.weights else replace(config, weights=str(folder / FILE))
    learned_training.learn(queries, documents, bm25, config)
    return learned_training.read(queries, documents, bm25, config)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LearnedScorerConfig:
    home = tmp_path_factory.mktemp("scorer")
    encoder = TextEncoderConfig(str(save_tiny_encoder(home / "e", WORDS)), max_tokens=24)
    return LearnedScorerConfig(
        "train.jsonl", encoder, "", str(embed(home / "vectors", encoder)), least_documents=1, most_documents=1.0, epochs=60,
        batch_size=4, lr=3e-3, head_lr=3e-2, threshold=1.0,
    )  # fmt: skip


def embed(folder: Path, config: TextEncoderConfig, name: str = "tiny") -> Path:
    """The vectors of the corpus by a text encoder, as `gemkr embed` keeps them."""
    encoder, reader = load_text_encoder(config).eval(), TextReader(config, PromptConfig())
    with torch.no_grad():
        found = encoder.meaning([torch.from_numpy(reader(Query("", d.contents))) for d in CORPUS])
    writer = VectorWriter(folder, vector_plan(name, CORPUS.fingerprint, len(CORPUS), WIDTH))
    writer.add(found.numpy())
    writer.finish()
    return folder


@pytest.fixture
def vectors(config: LearnedScorerConfig, tmp_path: Path) -> Path:
    return embed(tmp_path / "v", config.encoder)


@pytest.fixture(scope="module")
def bm25() -> BM25:
    return BM25(CORPUS)


def test_impacts_are_those_of_bm25(bm25: BM25) -> None:
    impacts = TermImpacts(bm25, CORPUS)
    assert impacts.documents == len(CORPUS)
    assert {"tea", "milk", "coffee", "fresh"} <= set(impacts.words)
    assert "the" not in impacts.words
    for text in ("fresh fresh tea, a table", "unknown words", "", "teas"):
        terms, counts = impacts.own(Query("q", text))
        np.testing.assert_allclose(impacts.score_all(terms, counts), bm25.score_all(text), rtol=1e-6)
        assert impacts.score_all(terms, counts).dtype == np.float32
    terms, counts = impacts.own(Query("q", "fresh tea", caption="fresh"))
    assert [(impacts.words[t], n) for t, n in zip(terms, counts)] in (
        [("fresh", 2), ("tea", 1)],
        [("tea", 1), ("fresh", 2)],
    )


def test_rare_and_frequent_terms_are_passed_over(bm25: BM25) -> None:
    held = bm25.documents_per_term()
    impacts = TermImpacts(bm25, CORPUS, least=3, most=0.3)
    lengths = np.diff(impacts.ends)
    assert len(impacts) == ((held >= 3) & (held <= 0.3 * len(CORPUS))).sum() > 2
    assert ((lengths >= 3) & (lengths <= 0.3 * len(CORPUS))).all()
    assert "cow" not in impacts.words
    assert impacts.fingerprint(CORPUS) != TermImpacts(bm25, CORPUS).fingerprint(CORPUS)
    sharper = TermImpacts(BM25(CORPUS, k1=0.9), CORPUS, least=3, most=0.3)
    moved = [*CORPUS[:-1], replace(CORPUS[10], text="of the")]
    found = [impacts.fingerprint(CORPUS), sharper.fingerprint(CORPUS), impacts.fingerprint(moved)]
    assert len(set(found)) == 3
    with pytest.raises(
        DataError, match=r"no word stands in at least 9 and at most 11 of the 11 passages; .* lower"
    ):
        TermImpacts(bm25, CORPUS, least=9)


def test_scores_are_those_of_the_definition(config: LearnedScorerConfig, bm25: BM25) -> None:
    encoder = load_text_encoder(config.encoder).eval()
    impacts = TermImpacts(bm25, CORPUS)
    vectors = torch.nn.functional.normalize(torch.randn(len(CORPUS), 24), dim=-1).half()
    for held in (vectors, None):
        scorer = LearnedScorer(
            encoder, TextReader(config.encoder, PromptConfig(True, True)), impacts, held, config
        )
        scorer.start_from_words()
        query = Query("q", "fresh tea from a leaf", caption="warm milk")
        with torch.no_grad():
            s = encoder.meaning([scorer.text(query)])[0]
            words = torch.stack([encoder.meaning([scorer.text(Query("", w))])[0] for w in impacts.words])
        terms, counts = impacts.own(query)
        own = dict(zip(terms.tolist(), counts.tolist()))
        expected = np.zeros(len(CORPUS))
        for term in range(len(impacts)):
            weight = 0.3 * np.log1p(max(0.0, config.scale * float(words[term] @ s) - config.threshold))
            weight += 0.1 * own.get(term, 0.0)
            for at in range(impacts.ends[term], impacts.ends[term + 1]):
                expected[impacts.docs[at]] += weight * impacts.weights[at]
        if held is not None:
            expected += 20 * (held.float() @ s).numpy()
        np.testing.assert_allclose(scorer.score(query, EVERY), expected, rtol=1e-3, atol=1e-3)
        some = np.array([7, 0, 3])
        np.testing.assert_allclose(scorer.score(query, some), scorer.score(query, EVERY)[some], rtol=1e-5)
        assert scorer.score(query, some).dtype == np.float32
        none = scorer.score(query, np.array([], dtype=np.int64))
        assert (none.shape, none.dtype) == ((0,), np.float32)
        assert np.isfinite(scorer.score(Query("mute"), EVERY)).all()
        weights = [weight for _, weight in scorer.weighed_terms(query)]
        assert weights == sorted(weights, reverse=True)
        assert {"fresh", "tea", "leaf", "warm", "milk"} <= {word for word, _ in scorer.weighed_terms(query)}


def test_the_product_with_the_corpus_has_the_gradient_of_a_dense_one(bm25: BM25) -> None:
    impacts = TermImpacts(bm25, CORPUS)
    by_document, by_term = learned_training._matrices(impacts)
    dense = by_term.to_dense()
    torch.testing.assert_close(by_document.to_dense(), dense.T)
    for term in range(len(impacts)):
        np.testing.assert_array_equal(
            dense[term].nonzero()[:, 0], impacts.docs[impacts.ends[term] : impacts.ends[term + 1]]
        )
    weights = torch.rand(3, len(impacts), requires_grad=True)
    again = weights.detach().clone().requires_grad_()
    factors = torch.randn(3, len(CORPUS))
    scores = learned_training._Corpus.apply(weights, by_document, by_term)
    torch.testing.assert_close(scores, again @ dense)
    (scores * factors).sum().backward()
    (again @ dense * factors).sum().backward()
    torch.testing.assert_close(weights.grad, again.grad)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("dense", [True, False])
def test_learns_which_passages_answer(
    config: LearnedScorerConfig, bm25: BM25, tmp_path: Path, dense: bool, precision: str
) -> None:
    settings = replace(config, vectors=config.vectors if dense else None, precision=precision)
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    scorer = learned_scorer(QUERIES, CORPUS, bm25, settings, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    retriever = ScorerRetriever(scorer, [document.doc_id for document in CORPUS])
    new = [
        Query("new", f"what comes from a {thing}", caption="a table", answers=(drink,))
        for thing, drink in DRINKS.items()
    ]
    for query, ranking in zip(new, retriever.retrieve(new, k=2), strict=True):
        best, second = ranking.hits
        assert query.answers[0] in CORPUS[int(best.doc_id[1:])].text.lower()
        assert best.score >= second.score
    (few,) = retriever.retrieve(new[:1], k=5, allowed={"d1", "d3"})
    assert {hit.doc_id for hit in few.hits} == {"d1", "d3"}


def test_what_was_learned_is_kept_and_known_by_its_origin(
    config: LearnedScorerConfig, bm25: BM25, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "deep" / "w.safetensors"
    short = replace(config, epochs=1, weights=str(cache), vectors=str(vectors))
    first = learned_scorer(QUERIES, CORPUS, bm25, short, tmp_path).score(QUERIES[0], EVERY)
    kept = cache.read_bytes()
    with monkeypatch.context() as patch:
        patch.delattr(learned_training, "_train")
        again = learned_scorer(QUERIES, CORPUS, bm25, replace(short, train="elsewhere.jsonl"), tmp_path)
        np.testing.assert_array_equal(again.score(QUERIES[0], EVERY), first)
        absent = replace(short, weights=str(tmp_path / "absent"))
        with pytest.raises(ConfigError, match=r"absent does not exist.*python -m benchmarks\.okvqa\.fit"):
            learned_training.read(QUERIES, CORPUS, bm25, absent)
        for settings, queries in ((replace(short, seed=1), QUERIES), (short, QUERIES[1:])):
            with pytest.raises(
                DataError, match=r"w\.safetensors was learned from other queries, settings, documents or"
            ):
                learned_scorer(queries, CORPUS, bm25, settings, tmp_path)
        others = replace(short, vectors=str(embed(tmp_path / "others", config.encoder, "another")))
        with pytest.raises(DataError, match=r"w\.safetensors was learned from other queries, settings"):
            learned_scorer(QUERIES, CORPUS, bm25, others, tmp_path)
    assert cache.read_bytes() == kept
    anew = learned_scorer(QUERIES, CORPUS, bm25, replace(short, weights=""), tmp_path)
    np.testing.assert_array_equal(anew.score(QUERIES[0], EVERY), first)
    assert (tmp_path / FILE).read_bytes() == kept


def test_passage_vectors_are_those_of_this_corpus(vectors: Path, tmp_path: Path) -> None:
    found, encoder = passage_vectors.passage_vectors(vectors, CORPUS, WIDTH)
    assert (found.shape, found.dtype, encoder) == ((len(CORPUS), WIDTH), torch.float16, "tiny")
    np.testing.assert_allclose(np.linalg.norm(found.float(), axis=1), 1, atol=1e-2)
    with pytest.raises(
        ConfigError, match=r"the passage vectors .*none are not there; make them with gemkr embed"
    ):
        passage_vectors.passage_vectors(tmp_path / "none", CORPUS, WIDTH)
    with pytest.raises(DataError, match=r"another number or width of vectors .*; make them with gemkr embed"):
        passage_vectors.passage_vectors(vectors, CORPUS, WIDTH + 1)
    moved = DocumentStore([*CORPUS[:-1], replace(CORPUS[10], text="other")])
    with pytest.raises(DataError, match=r"were made with another corpus; make them with gemkr embed"):
        passage_vectors.passage_vectors(vectors, moved, WIDTH)
    broken = np.load(vectors / "vectors.npy")
    broken[3, 1] = np.nan
    np.save(vectors / "vectors.npy", broken)
    with pytest.raises(DataError, match="hold numbers that are not finite; make them with gemkr embed"):
        passage_vectors.passage_vectors(vectors, CORPUS, WIDTH)


def test_what_cannot_be_learned(config: LearnedScorerConfig, bm25: BM25, tmp_path: Path) -> None:
    frozen = replace(config, encoder=replace(config.encoder, train=False))
    with pytest.raises(ConfigError, match=r"encoder\.train is false"):
        learned_scorer(QUERIES, CORPUS, bm25, frozen, tmp_path)
    with pytest.raises(ConfigError, match="precision is 'fp8'; known are fp32 and bf16"):
        learned_scorer(QUERIES, CORPUS, bm25, replace(config, precision="fp8"), tmp_path)
    (tmp_path / "file").touch()
    blocked = replace(config, weights=str(tmp_path / "file" / "w"))
    with pytest.raises(DataError, match=r"the output folder .*file cannot be written"):
        learned_scorer(QUERIES, CORPUS, bm25, blocked, tmp_path)
    lost = [Query("q", "what", answers=("unicorn",)), Query("r", "what")]
    with pytest.raises(DataError, match="no document holds an answer of the 2 training queries"):
        learned_scorer(lost, CORPUS, bm25, config, tmp_path)


@pytest.fixture
def evaluation(tmp_path: Path, config: LearnedScorerConfig) -> Path:
    """An evaluation of the scorer alone, and of the encoder's classifier."""

    def write(path: Path, queries: list[Query]) -> None:
        rows = ({"query_id": q.query_id, "question": q.question, "answers": q.answers} for q in queries)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(tmp_path / "train.jsonl", QUERIES)
    write(
        tmp_path / "asked.jsonl", [replace(query, query_id=f"new{query.query_id}") for query in QUERIES[::4]]
    )
    rows = "".join(f'{document.doc_id},"{document.text}"\n' for document in CORPUS)
    (tmp_path / "corpus.csv").write_text("kid,text\n" + rows)
    encoder = f"encoder: {{folder: {config.encoder.folder}, max_tokens: 24}}"
    learning = (
        f"train: {tmp_path}/train.jsonl, {encoder}, epochs: 60, batch_size: 4, lr: 0.003, head_lr: 0.03"
    )
    scorer = (
        f"{{kind: 'benchmarks.okvqa.learned_scorer:LearnedScorer', {learning}, weights: {tmp_path}/scorer, "
        f"vectors: {tmp_path}/vectors, least_documents: 1, most_documents: 1.0, threshold: 1.0}}"
    )
    path = tmp_path / "eval.yaml"
    path.write_text(
        f"queries: {tmp_path}/asked.jsonl\ncorpus: {tmp_path}/corpus.csv\noutput: {tmp_path}/out\n"
        "metrics: [S@1, P@2]\nmatch: word\nretrievers:\n"
        "  learned_scorer:\n    kind: benchmarks.okvqa.learned_retriever:ScorerRetriever\n"
        f"    scorer: {{kind: blend, first: {scorer}, second: bm25, share: 0.2}}\n"
        "  encoder_classifier_coverage:\n    kind: benchmarks.okvqa.answers:AnswerRetriever\n"
        f"    guesser: {{kind: encoder_classifier, {learning}, weights: {tmp_path}/classifier}}\n"
        "  bm25: {kind: bm25}\n"
        f"  dense: {{kind: dense, encoder: {{kind: sentence_transformers, folder: {config.encoder.folder}}}, vectors: {tmp_path}/vectors}}\n"
        "evaluate: [learned_scorer, encoder_classifier_coverage]\n"
    )
    return path


def test_an_evaluation_with_it(evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, weights = evaluation.parent / "out", evaluation.parent / "scorer"
    assert main(["eval", str(evaluation)]) == 1
    assert "vectors are not there; make them with gemkr embed" in capsys.readouterr().err
    assert main(["embed", str(evaluation), "dense"]) == 0
    assert main(["eval", str(evaluation)]) == 1
    assert "does not exist, and retrieval never trains; make it first: python -m" in capsys.readouterr().err
    for name in ("learned_scorer", "encoder_classifier_coverage"):
        assert fit([str(evaluation), name]) == 0
    assert f"learned: {weights}" in capsys.readouterr().out
    learned = weights.read_bytes()
    assert fit([str(evaluation), "learned_scorer"]) == 0
    assert f"there already: {weights}" in capsys.readouterr().out
    assert main(["eval", str(evaluation)]) == 0
    rows = json.loads((out / "metrics.json").read_text())["rows"]
    assert {name: row["S@1"] for name, row in rows.items()} == {
        "learned_scorer": 1.0,
        "encoder_classifier_coverage": 1.0,
    }
    assert weights.read_bytes() == learned


def test_what_learning_refuses(evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit([str(evaluation), "bm25"]) == 1
    assert "the retriever 'bm25' has nothing to learn" in capsys.readouterr().err
    assert fit([str(evaluation), "nobody"]) == 1
    assert "no retriever is called 'nobody'" in capsys.readouterr().err
    asked = evaluation.parent / "asked.jsonl"
    assert (
        fit([str(evaluation), "learned_scorer", f"retrievers.learned_scorer.scorer.first.train={asked}"]) == 1
    )
    assert "set train to a file without them" in capsys.readouterr().err
