"""The simple baselines: what they learn from training queries, the passages they choose, and what they refuse."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.okvqa import classifier as classifier_module
from benchmarks.okvqa.answers import AnswerRetriever, ExpandedQueryRetriever, GreedyCoverage, OnePerAnswer
from benchmarks.okvqa.bags import BagVectors, CosineIndex, QueryWords
from benchmarks.okvqa.classifier import AnswerClassifier
from benchmarks.okvqa.config import ClassifierConfig
from benchmarks.okvqa.fit import main as fit
from benchmarks.okvqa.nearest import NearestQuestions
from benchmarks.okvqa.phrase_documents import PhraseDocuments
from gemkr.cli import main
from gemkr.data.qrels import AnswerMatcher
from gemkr.data.queries import read_queries
from gemkr.errors import ConfigError, DataError
from gemkr.scorers.bm25 import BM25
from gemkr.testing import toy_corpus
from gemkr.types import Document, Query

CORPUS = toy_corpus()
TRAIN = [
    Query("t1", "What does it drink?", caption="a cup in Japan", answers=("tea", "green tea")),
    Query("t2", "What does it drink?", caption="a mug in Kenya", answers=("coffee", "tea")),
    Query("t3", "Where does the lion sleep?", detections=("lion",), answers=("sun",)),
    Query("t4", "Which animal hunts at night?", detections=("bird",), answers=("owl",)),
    Query("t5", "Which animal hunts at night?", caption="a bird on a tree", answers=("owl",)),
    Query("t6", "Where does the big cat sleep?", detections=("lion",), answers=("sun",)),
]
QUICK = ClassifierConfig(
    "train.jsonl", "", hidden=16, epochs=30, batch_size=4, lr=0.05, least_answers=1, least_words=1
)


def answer_classifier(queries: list[Query], settings: ClassifierConfig, path: Path) -> AnswerClassifier:
    """Learned into a file, unless it is there, and read."""
    settings = replace(settings, weights=str(path))
    AnswerClassifier.learn(queries, settings)
    return AnswerClassifier.read(queries, settings)


class Fixed:
    """A guesser that always guesses the same."""

    def __init__(self, *guesses: tuple[str, float]) -> None:
        self.guesses = guesses

    def guess(self, query: Query) -> tuple[tuple[str, float], ...]:
        return self.guesses


def test_holders_are_those_of_word_matching() -> None:
    rng = random.Random(0)
    vocabulary = ["tea", "Green-Tea", "green", "TEA!", "bear", "bears", "İzmir", "e.g.", "3", "-", "the"]
    texts = [" ".join(rng.choices(vocabulary, k=rng.randint(0, 12))) for _ in range(60)]
    corpus = [Document(str(i), text, title=rng.choice(["", "tea"])) for i, text in enumerate(texts)]
    phrases = [
        "tea",
        "Tea ",
        "green tea",
        "the bear",
        "bears 3",
        "izmir",
        "İzmir",
        "e.g.",
        "g",
        "!",
        "",
        "lion",
    ]
    holders = PhraseDocuments(corpus, phrases)
    for phrase in phrases:
        matcher = AnswerMatcher([phrase], "word")
        expected = [i for i, document in enumerate(corpus) if matcher and matcher.matches(document.contents)]
        assert holders[phrase].tolist() == expected, phrase
    with pytest.raises(KeyError):
        holders["unasked"]


def test_cosines_are_those_of_the_vectors() -> None:
    vectors = BagVectors(TRAIN, QueryWords(shared=True))
    near = CosineIndex(map(vectors.vector, TRAIN), len(vectors))
    dense = np.zeros((len(TRAIN), len(vectors)), dtype=np.float32)
    for row, query in enumerate(TRAIN):
        features, weights = vectors.vector(query)
        dense[row, features] = weights
    assert np.linalg.norm(dense, axis=1) == pytest.approx(np.ones(len(TRAIN)))
    for row, query in enumerate(TRAIN):
        assert near.similarities(*vectors.vector(query)) == pytest.approx(dense @ dense[row], abs=1e-6)
    assert len(vectors.vector(Query("q", "xyzzy"))[0]) == 0


def test_captions_and_labels_share_features_on_request() -> None:
    query = Query("q", "Which animals?", caption="a bird", detections=("bird house",))
    assert QueryWords(shared=True)(query) == [
        "q:which", "q:anim", "q:which anim", "c:a", "c:bird", "c:bird", "c:hous",
    ]  # fmt: skip
    assert QueryWords(shared=False)(query)[-2:] == ["d:bird", "d:hous"]


def test_the_nearest_questions_vote() -> None:
    nearest = NearestQuestions(TRAIN, neighbours=2)
    guesses = nearest.guess(Query("q", "What does it drink?", caption="a cup"))
    assert [answer for answer, _ in guesses] == ["tea", "green tea", "coffee"]
    assert guesses[0][1] == pytest.approx(guesses[1][1] + guesses[2][1])
    assert nearest.guess(Query("q", "xyzzy")) == []
    with pytest.raises(DataError, match="no training query has an answer"):
        NearestQuestions([Query("q", "What?")])


def test_one_passage_for_each_answer() -> None:
    bm25 = BM25(CORPUS)
    holders = PhraseDocuments(CORPUS, ["tea", "Kenya", "unicorn"])
    guesser = Fixed(("tea", 0.5), ("unicorn", 0.3), ("Kenya", 0.2), ("tea", 0.1))
    retriever = AnswerRetriever(guesser, OnePerAnswer(holders), bm25, [d.doc_id for d in CORPUS])
    (ranking,) = retriever.retrieve([Query("q", "Is Kenya known for coffee?")], k=10)
    assert [(hit.doc_id, hit.score) for hit in ranking.hits] == [("d5", 0.5), ("d4", 0.2), ("d3", 0.1)]
    (ranking,) = retriever.retrieve([Query("q", "Is Kenya known for coffee?")], k=1)
    assert [hit.doc_id for hit in ranking.hits] == ["d5"]
    with pytest.raises(DataError, match="12 documents and there are 1 ids"):
        AnswerRetriever(guesser, OnePerAnswer(holders), bm25, ["d0"])


def test_greedy_coverage_agrees_with_its_definition() -> None:
    rng = np.random.default_rng(0)
    answers = ["tea", "capital", "night", "the", "sleeps", "bread", "unicorn"]
    holders = PhraseDocuments(CORPUS, answers)
    chooser = GreedyCoverage(holders, answers=5, discount=0.3, second_weight=0.1)
    for _ in range(20):
        guesses = sorted(zip(answers, rng.random(7).tolist()), key=lambda guess: -guess[1])
        scores = rng.random(len(CORPUS)).astype(np.float32)
        kept = [guess for guess in guesses if len(holders[guess[0]])][:5]
        left = {answer: weight / sum(w for _, w in kept) for answer, weight in kept}
        free, expected = set(range(len(CORPUS))), []
        for _ in range(8):
            value = {
                doc: sum(w for a, w in left.items() if doc in holders[a]) + 0.1 * scores[doc] / scores.max()
                for doc in free
            }
            best = max(sorted(free), key=value.__getitem__)
            expected.append((best, value[best]))
            free.remove(best)
            left = {a: w * 0.3 if best in holders[a] else w for a, w in left.items()}
        chosen = chooser.choose(guesses, scores, 8)
        assert [doc for doc, _ in chosen] == [doc for doc, _ in expected]
        assert [score for _, score in chosen] == pytest.approx([score for _, score in expected], abs=1e-6)
    assert chooser.choose([("unicorn", 1.0)], scores, 8) == []
    assert chooser.choose([], scores, 8) == []
    unsure = chooser.choose([("tea", 0.0), ("night", 0.0)], scores, 8)
    assert [doc for doc, _ in unsure] == np.argsort(-scores)[:8].tolist()


def test_the_expanded_query_holds_the_best_guesses_twice() -> None:
    guesser = Fixed(("tea", 0.5), ("green tea", 0.3), ("coffee", 0.2))
    retriever = ExpandedQueryRetriever(guesser, BM25(CORPUS), [d.doc_id for d in CORPUS], answers=2)
    query = Query("q", "What drink?", caption="a cup")
    assert retriever.text_of(query) == "What drink? a cup tea green tea tea green tea"
    (ranking,) = retriever.retrieve([query], k=2)
    assert [hit.doc_id for hit in ranking.hits] == ["d3", "d5"]


def test_the_classifier_learns_repeats_itself_and_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "out" / "weights.safetensors"
    first = answer_classifier(TRAIN, QUICK, cache)
    query = Query("q", "Which animal hunts?", detections=("bird",))
    guesses = first.guess(query)
    assert guesses[0][0] == "owl"
    assert sum(weight for _, weight in guesses) == pytest.approx(1)
    assert {answer for answer, _ in guesses} == {"tea", "green tea", "coffee", "sun", "owl"}
    content = cache.read_bytes()
    assert answer_classifier(TRAIN, QUICK, tmp_path / "again").guess(query) == guesses
    assert (tmp_path / "again").read_bytes() == content
    with monkeypatch.context() as patch:
        patch.delattr(classifier_module, "train_network")
        read = answer_classifier(TRAIN, QUICK, cache).guess(query)
    assert [answer for answer, _ in read] == [answer for answer, _ in guesses]
    assert [w for _, w in read] == pytest.approx(
        [w for _, w in guesses]
    )  # sums depend on where weights lie in memory
    with pytest.raises(DataError, match="was learned from other queries or settings; delete it"):
        answer_classifier(TRAIN[1:], QUICK, cache)
    assert cache.read_bytes() == content
    with pytest.raises(ConfigError, match=r"absent does not exist.*python -m benchmarks\.okvqa\.fit"):
        AnswerClassifier.read(TRAIN, replace(QUICK, weights=str(tmp_path / "absent")))
    cache.write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not a weight file of gemkr"):
        answer_classifier(TRAIN, QUICK, cache)
    with pytest.raises(DataError, match="no answer is given by 9 of the 6 training queries"):
        answer_classifier(TRAIN, replace(QUICK, least_answers=9), cache)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    def write(path: Path, queries: list[Query]) -> None:
        rows = [
            {
                "query_id": q.query_id,
                "question": q.question,
                "caption": q.caption,
                "detections": q.detections,
                "answers": q.answers,
            }
            for q in queries
        ]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    write(tmp_path / "train.jsonl", TRAIN)
    write(
        tmp_path / "asked.jsonl",
        [
            Query("1", "What does he drink?", caption="a cup in Peru", answers=("tea",)),
            Query("2", "Which animal hunts?", detections=("bird",), answers=("owl",)),
            Query("3", "xyzzy", answers=("sun",)),
        ],
    )
    rows = "".join(f'{document.doc_id},"{document.text}"\n' for document in CORPUS)
    (tmp_path / "corpus.csv").write_text("kid,text\n" + rows)
    path = tmp_path / "eval.yaml"
    path.write_text(
        f"queries: {tmp_path}/asked.jsonl\ncorpus: {tmp_path}/corpus.csv\noutput: {tmp_path}/out\nmetrics: [P@5, S@1]\n"
        "retrievers:\n"
        "  answer_classifier_coverage:\n    kind: benchmarks.okvqa.answers:AnswerRetriever\n"
        f"    guesser: {{kind: classifier, train: {tmp_path}/train.jsonl, weights: {tmp_path}/classifier, hidden: 16, "
        "epochs: 30, batch_size: 4, lr: 0.05, least_answers: 1, least_words: 1}\n"
        "  answer_classifier:\n    kind: benchmarks.okvqa.answers:AnswerRetriever\n    chooser: one_per_answer\n"
        "    guesser: ${retrievers.answer_classifier_coverage.guesser}\n"
        "  nearest_questions:\n    kind: benchmarks.okvqa.answers:AnswerRetriever\n    chooser: one_per_answer\n"
        f"    guesser: {{kind: nearest, train: {tmp_path}/train.jsonl}}\n"
        "  nearest_questions_query:\n    kind: benchmarks.okvqa.answers:ExpandedQueryRetriever\n"
        "    guesser: ${retrievers.nearest_questions.guesser}\n"
        "  bm25_caption: {kind: bm25, caption: true}\n  fusion: {kind: fusion, of: [bm25_caption, nearest_questions]}\n"
    )
    return path


def test_all_baselines_in_one_evaluation(config: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["retrieve", str(config)]) == 1
    assert "classifier does not exist, and retrieval never trains" in capsys.readouterr().err
    assert fit([str(config), "answer_classifier_coverage"]) == 0
    assert main(["eval", str(config)]) == 0
    out = config.parent / "out"
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["rows"].keys() == {
        "answer_classifier_coverage",
        "answer_classifier",
        "fusion",
        "nearest_questions_query",
        "nearest_questions",
        "bm25_caption",
    }
    assert metrics["rows"]["nearest_questions"]["S@1"] == pytest.approx(2 / 3)
    assert metrics["intervals"]["fusion"]["P@5"].keys() == {"mean", "low", "high"}
    assert len((out / "per_query.jsonl").read_text().splitlines()) == 3
    capsys.readouterr()
    assert main(["eval", str(config)]) == 0
    assert "3 of them from an earlier run" in capsys.readouterr().err
    assert main(["eval", str(config), "retrievers.nearest_questions.guesser.neighbours=1"]) == 1
    assert "guesser.neighbours = 30" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["retrievers.fusion.of=[fusion,bm25_caption]"], "fusion of fusion is a circle"),
        (["retrievers.fusion.of=[bm25_caption]"], "fusion needs at least two retrievers, of names 1"),
        (
            ["retrievers.fusion.of=[bm25_caption,best]"],
            "the retriever 'fusion' is of 'best', which has no section",
        ),
        (
            ["retrievers.nearest_questions.chooser=best"],
            "the chooser 'best' is unknown; known are one_per_answer, coverage",
        ),
        (
            ["retrievers.nearest_questions.guesser.kind=oracle"],
            "the kind 'oracle' of answer guesser is unknown",
        ),
    ],
)
def test_what_baselines_refuse(
    config: Path, capsys: pytest.CaptureFixture, overrides: list[str], message: str
) -> None:
    assert main(["retrieve", str(config), "--retriever", "fusion", *overrides]) == 1
    assert message in capsys.readouterr().err


def test_answers_of_the_queries_are_never_learned(config: Path, capsys: pytest.CaptureFixture) -> None:
    train = config.parent / "train.jsonl"
    train.write_text(train.read_text() + (config.parent / "asked.jsonl").read_text())
    assert main(["retrieve", str(config), "--retriever", "nearest_questions"]) == 1
    assert "3 of the 3 queries, such as '1', stand in the training file" in capsys.readouterr().err


@pytest.mark.shared
def test_nearest_questions_of_real_queries(shared_data: Path) -> None:
    """Of 300 questions, the ten best guesses of the nearest of 9,009 training questions hold an answer for a third."""
    nearest = NearestQuestions(list(read_queries(shared_data / "okvqa" / "train.jsonl")))
    asked = list(read_queries(shared_data / "okvqa" / "dev.jsonl"))[:300]
    right = sum(any(a in query.answers for a, _ in nearest.guess(query)[:10]) for query in asked)
    assert right > 100
