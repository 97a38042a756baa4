"""A service that fits a test: BM25, and a language model without weights over the toy corpus, as a configuration names them."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toy_text import documents, train_sentencepiece

from gemkr.collection.collection import Collection
from gemkr.config.files import load_config
from gemkr.decoding.config import DecodingConfig
from gemkr.evaluation.config import EvalConfig
from gemkr.fm_index import FMIndex
from gemkr.interfaces import Allowed
from gemkr.retrievers.generative.retriever import GenerativeRetriever
from gemkr.serve.service import Service
from gemkr.testing import RandomLM, ToyTokenizer, toy_corpus
from gemkr.types import Query, Ranking

LOCAL = "http://127.0.0.1"
"""What a client in the same process calls the service by."""
STRANGE = "<script>alert('x')</script> & a \U0001f1eb\U0001f1f7 flag of Chad ."
"""A document that is text, whatever it looks like."""


class TinyGenerative(GenerativeRetriever):
    """Clues of random logits over the corpus."""

    reads_pictures = False

    @dataclass(frozen=True)
    class Config:
        """How long the model takes for a step, in seconds."""

        pause: float = 0.0

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> TinyGenerative:
        texts = [document.contents for document in sources.documents]
        tokenizer = ToyTokenizer(texts)
        index = FMIndex.build(
            [tokenizer.encode(text) for text in texts],
            sources.documents.doc_ids,
            vocab_size=tokenizer.vocab_size,
        )
        model = SlowLM(tokenizer.vocab_size, (2,))
        model.pause = config.pause
        return cls(model, index, tokenizer, _prompt, DecodingConfig(beam_size=6, groups=2, max_tokens=10))

    @staticmethod
    def input_files(config: Config) -> dict[str, str | None]:
        return {}


class TinyCollection(TinyGenerative):
    """Clues of random logits over the collection that the corpus is."""

    @classmethod
    def from_config(cls, config: Any, sources: Any) -> TinyCollection:
        collection = sources.collection(sources.corpus_path)
        model = RandomLM(collection.index.vocab_size, collection.tokenizer.eos_ids)
        decoding = DecodingConfig(beam_size=20, groups=4, max_tokens=3)
        return cls(model, collection.index, collection.tokenizer, _prompt, decoding)


class SlowLM(RandomLM):
    """Takes its time for each step, and counts them."""

    pause = 0.0
    steps = 0

    def step(self, tokens: Any, state: Any) -> Any:
        self.steps += 1
        if self.pause:
            threading.Event().wait(self.pause)
        return super().step(tokens, state)


class Failing:
    """A retriever with a fault for the questions that say so."""

    @dataclass(frozen=True)
    class Config:
        """No settings."""

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> Failing:
        return cls()

    def retrieve(self, queries: Iterable[Query], k: int, *, allowed: Allowed = None) -> Iterator[Ranking]:
        for query in queries:
            if "fail" in query.question:
                raise ZeroDivisionError("a secret of the inside")
            yield Ranking(query.query_id, ())


class Loading(Failing):
    """A retriever that takes its time to load, and then holds what only an orderly end gives back."""

    @dataclass(frozen=True)
    class Config:
        """Seconds to load; the file to make when it begins."""

        seconds: float = 0.0
        begun: str | None = None

    @classmethod
    def from_config(cls, config: Config, sources: Any) -> Loading:
        made = cls()
        made.lock = multiprocessing.get_context("spawn").Lock()
        if config.begun is not None:
            Path(config.begun).touch()
        threading.Event().wait(config.seconds)
        return made


def _prompt(query: Query) -> str:
    return f"{query.question} {query.instruction} {query.caption}"


def write_config(folder: Path, *, pause: float = 0.0, **serve: Any) -> Path:
    """A configuration of three retrievers over the toy corpus and a strange document."""
    rows = [(d.doc_id, d.text) for d in toy_corpus()] + [("strange/one", STRANGE)]
    (folder / "corpus.csv").write_text("kid,text\n" + "".join(f'{i},"{t}"\n' for i, t in rows))
    (folder / "animals.txt").write_text("d8\nd9\nd10\nd11\n")
    lines = [
        "corpus: corpus.csv",
        "pools: {animals: animals.txt}",
        "retrievers:",
        f"  tiny: {{kind: 'serve.tiny_service:TinyGenerative', pause: {pause}}}",
        "  bm25: {kind: bm25}",
        "  failing: {kind: 'serve.tiny_service:Failing'}",
        "  both: {kind: fusion, of: [tiny, bm25]}",
        "evaluate: [tiny]",
        "serve:",
        *(f"  {key}: {value}" for key, value in ({"port": 0} | serve).items()),
    ]
    path = folder / "serve.yaml"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_collection(folder: Path) -> Path:
    """A configuration over a collection of eight passages."""
    tokenizer = train_sentencepiece(folder / "tokenizer.model")
    Collection.create(folder / "corpus", tokenizer=tokenizer, documents=documents())
    path = folder / "serve.yaml"
    path.write_text(
        "corpus: corpus\nserve: {port: 0}\nretrievers:\n  bm25: {kind: bm25}\n"
        "  tiny: {kind: 'serve.tiny_service:TinyCollection'}\n"
    )
    return path


def tiny_service(folder: Path, **given: Any) -> Service:
    return Service(load_config(write_config(folder, **given), EvalConfig))


def problem(answer: Any, status: int) -> str:
    """The sentence of a problem, after checking its form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"]
    assert "Traceback" not in body["detail"]
    return body["detail"]
