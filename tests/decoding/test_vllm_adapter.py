"""The adapter for vLLM against a stub of its interface: vLLM itself is not needed, nor known to these tests."""

from __future__ import annotations

import enum
import importlib
import sys
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from many_segments import collection_of, fresh_index, live
from toy_text import train_byte_level

from gemkr.collection.sharded import ShardedCollection
from gemkr.decoding.engines.processor import IndexLogitsProcessor
from gemkr.errors import DecodingError, ModelError
from gemkr.fm_index import FMIndex, SegmentedIndex
from gemkr.text.borders import borders_of
from gemkr.text.tokenizer import load_tokenizer

EOS, WIDTH = 2, 70
DOCS = [[3, 4, 5, 3, 4, 6], [4, 5, 7], [8, 9, 10, 11, 12, 65]]
MODULES = ("vllm", "vllm.v1", "vllm.v1.sample", "vllm.v1.sample.logits_processor")


class Direction(enum.Enum):
    UNIDIRECTIONAL = enum.auto()
    SWAP = enum.auto()


@dataclass
class Params:
    extra_args: dict | None = None
    all_stop_token_ids: set[int] = field(default_factory=lambda: {EOS})
    ignore_eos: bool = False


def update(batch_size: int, *, removed=(), added=(), moved=()) -> SimpleNamespace:
    return SimpleNamespace(batch_size=batch_size, removed=removed, added=added, moved=moved)


def clue(**more) -> Params:
    return Params({"gemkr_clue": True, **more})


@pytest.fixture
def adapter(monkeypatch, tmp_path) -> ModuleType:
    """The adapter's module, imported as if vLLM were there."""
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules[MODULES[-1]].LogitsProcessor = type("LogitsProcessor", (), {})
    monkeypatch.delitem(sys.modules, "gemkr.decoding.engines.vllm", raising=False)
    FMIndex.build(DOCS, vocab_size=66).save(tmp_path / "corpus.fmi")
    monkeypatch.setenv("GEMKR_VLLM_INDEX", str(tmp_path / "corpus.fmi"))
    yield importlib.import_module("gemkr.decoding.engines.vllm")
    sys.modules.pop("gemkr.decoding.engines.vllm", None)


@pytest.fixture
def processor(adapter):
    return adapter.ClueLogitsProcessor(SimpleNamespace(), torch.device("cpu"), False)


def allowed(logits: torch.Tensor) -> list[set[int]]:
    return [set(torch.isfinite(row).nonzero().flatten().tolist()) for row in logits]


ANY = set(range(WIDTH))


def test_each_request_follows_its_own_clue_through_the_batch(processor) -> None:
    assert not processor.is_argmax_invariant()
    a, b, c = [], [], []
    processor.update_state(
        update(3, added=[(0, clue(), [1], a), (1, Params(), [1], b), (2, clue(), None, c)])
    )
    first = {3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 65}
    assert allowed(processor.apply(torch.zeros(3, WIDTH))) == [first, ANY, first]
    a += [3]
    b += [50]
    c += [12]
    processor.update_state(None)
    assert allowed(processor.apply(torch.zeros(3, WIDTH))) == [{4, EOS}, ANY, {65, EOS}]
    a += [4]
    c += [65]
    processor.update_state(update(3, moved=[(0, 1, Direction.SWAP)]))
    assert allowed(processor.apply(torch.zeros(3, WIDTH))) == [ANY, {5, 6, EOS}, {EOS}]
    processor.update_state(update(2, removed=[0], moved=[(2, 0, Direction.UNIDIRECTIONAL)]))
    assert allowed(processor.apply(torch.zeros(2, WIDTH))) == [{EOS}, {5, 6, EOS}]
    processor.update_state(update(2, removed=[0], added=[(0, Params(), [1], [])]))
    assert allowed(processor.apply(torch.zeros(2, WIDTH))) == [ANY, {5, 6, EOS}]
    processor.update_state(update(0, removed=[0, 1]))
    assert allowed(processor.apply(torch.zeros(1, WIDTH))) == [ANY]


def test_with_a_tokenizer_clues_are_whole_words(adapter, monkeypatch, tmp_path) -> None:
    tokenizer = load_tokenizer(train_byte_level(tmp_path / "bytes"))
    texts = ["naïve café", "naïve owl", "猫 naïve"]
    FMIndex.build(tokenizer.encode_batch(texts), tokenizer=tokenizer).save(tmp_path / "words.fmi")
    monkeypatch.setenv("GEMKR_VLLM_INDEX", str(tmp_path / "words.fmi"))
    eos = tokenizer.eos_ids[0]
    params = Params({"gemkr_clue": True, "gemkr_one_document": True}, {eos})

    def ends(output: list[int], tokenizer_path: str) -> bool:
        monkeypatch.setenv("GEMKR_VLLM_TOKENIZER", tokenizer_path)
        processor = adapter.ClueLogitsProcessor(SimpleNamespace(), torch.device("cpu"), False)
        processor.update_state(update(1, added=[(0, params, [1], output)]))
        (row,) = allowed(processor.apply(torch.zeros(1, tokenizer.vocab_size)))
        if not output and tokenizer_path:
            assert all(borders.begins[token] for token in row)
        return eos in row

    borders = borders_of(tokenizer, tokenizer.vocab_size, words=True)
    tokens = tokenizer.encode(texts[0])
    place, words = 0, {len(" naïve".encode()), len(f" {texts[0]}".encode())}
    for size in range(len(tokens) + 1):
        assert ends(tokens[:size], str(tmp_path / "bytes")) == (place in words)
        assert ends(tokens[:size], "") == (size > 0)
        place += len(tokenizer.piece_bytes(tokens[size])) if size < len(tokens) else 0


def test_ends_and_rows_that_others_blocked(processor) -> None:
    resumed, left, ended, several, one = [8, 9, 10], [5, 5], [3, EOS, 7], [3], [8]
    processor.update_state(
        update(
            5,
            added=[
                (0, clue(), [1], resumed),
                (1, clue(), [1], left),
                (2, clue(), [1], ended),
                (3, Params({"gemkr_clue": 1}, {EOS, 4, 69}), [1], several),
                (4, clue(gemkr_one_document=True), [1], one),
            ],
        )
    )
    rows = allowed(processor.apply(torch.zeros(5, WIDTH)))
    assert rows == [{11, EOS}, {EOS}, {EOS}, {EOS, 4, 69}, {EOS}]
    blocked = torch.zeros(5, WIDTH)
    blocked[0, [11, EOS]] = -torch.inf
    blocked[3] = -torch.inf
    assert allowed(processor.apply(blocked)) == [{EOS}, {EOS}, {EOS}, {EOS, 4, 69}, {EOS}]


def test_a_busy_engine_writes_what_each_request_alone_would(processor) -> None:
    """Requests come, go, swap and fill holes at random; greedy outputs equal those of one row at a time."""
    index = FMIndex.build(DOCS, vocab_size=66)
    scores = np.random.default_rng(1).normal(size=(40, 12, WIDTH)).astype(np.float32)

    def alone(request: int) -> list[int]:
        tokens: list[int] = []
        single = IndexLogitsProcessor(index, EOS, prompt_length=0)
        for step in range(12):
            row = torch.from_numpy(scores[request, step])[None]
            tokens.append(int(single(torch.tensor([tokens], dtype=torch.int64), row).argmax()))
            if tokens[-1] == EOS:
                break
        return tokens

    rng, waiting, batch, written = np.random.default_rng(0), list(range(40)), [], {}
    removed: list[int] = []
    while waiting or batch:
        added, moved = [], []
        holes = sorted(removed)
        size = len(batch)
        while waiting and size - len(holes) < 6 and rng.random() < 0.8:
            request, output = waiting.pop(0), []
            row = holes.pop(0) if holes else size
            batch[row : row + 1] = [(request, output)]
            size = len(batch)
            added.append((row, clue(), [1], output))
        while holes:
            last = len(batch) - 1
            hole = holes.pop() if holes[-1] == last else holes.pop(0)
            if hole != last:
                batch[hole] = batch[last]
                moved.append((last, hole, Direction.UNIDIRECTIONAL))
            batch.pop()
        if len(batch) > 1 and rng.random() < 0.5:
            i, j = rng.choice(len(batch), 2, replace=False).tolist()
            batch[i], batch[j] = batch[j], batch[i]
            moved.append((i, j, Direction.SWAP))
        changed = bool(removed or added or moved)
        processor.update_state(
            update(len(batch), removed=removed, added=added, moved=moved) if changed else None
        )
        removed = []
        if not batch:
            continue
        logits = torch.from_numpy(np.stack([scores[request, len(output)] for request, output in batch]))
        for row, token in enumerate(processor.apply(logits).argmax(dim=1).tolist()):
            request, output = batch[row]
            output.append(token)
            if token == EOS or len(output) == 12:
                written[request] = output
                removed.append(row)
    assert written == {request: alone(request) for request in range(40)}


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> dict[str, str]:
    """A collection of 5 segments with deleted documents, shards of the same documents, and fresh index files of both."""
    folder = tmp_path_factory.mktemp("material")
    path = train_byte_level(folder / "bytes")
    collection = collection_of(folder / "collection", path, 5)
    shards = ShardedCollection.create(folder / "shards", 2, tokenizer=path, documents=live(), processes=1)
    for name, made in (("collection", collection), ("shards", shards)):
        fresh_index(list(made.documents), collection.tokenizer).save(folder / f"{name}.fmi")
    return {name: str(folder / name) for name in ("bytes", "collection", "shards")}


@pytest.mark.parametrize("kind", ["collection", "shards"])
@pytest.mark.parametrize("words", [False, True])
def test_a_collection_gives_what_a_fresh_index_of_its_documents_gives(
    adapter, material, monkeypatch, kind: str, words: bool
) -> None:
    tokenizer = load_tokenizer(material["bytes"])
    monkeypatch.setenv("GEMKR_VLLM_TOKENIZER", material["bytes"] if words else "")
    rng = np.random.default_rng(3)
    requests = [[int(t) for t in tokenizer.encode(d.text)[: i % 5]] for i, d in enumerate(live()[::9])]
    sides = []
    for path in (material[kind], f"{material[kind]}.fmi"):
        monkeypatch.setenv("GEMKR_VLLM_INDEX", path)
        adapter.ClueLogitsProcessor.validate_params(clue())
        processor = adapter.ClueLogitsProcessor(SimpleNamespace(), torch.device("cpu"), False)
        outputs = [list(tokens) for tokens in requests]
        eos = {tokenizer.eos_ids[0]}
        added = [
            (row, Params({"gemkr_clue": True, "gemkr_one_document": row % 2 == 0}, eos), None, output)
            for row, output in enumerate(outputs)
        ]
        processor.update_state(update(len(added), added=added))
        sides.append((processor, outputs))
    assert type(sides[0][0]._matcher.index) is SegmentedIndex
    ended = 0
    for _ in range(8):
        logits = torch.from_numpy(rng.normal(size=(len(requests), tokenizer.vocab_size)).astype(np.float32))
        ours, theirs = (processor.apply(logits.clone()) for processor, _ in sides)
        assert torch.equal(ours, theirs)
        for row, token in enumerate(ours.argmax(dim=1).tolist()):
            ended += token in tokenizer.eos_ids
            for _, outputs in sides:
                outputs[row].append(token)
    assert 0 < ended < 8 * len(requests)


def test_wrong_use_is_named(adapter, processor, monkeypatch, tmp_path) -> None:
    check = adapter.ClueLogitsProcessor.validate_params
    check(clue())
    check(Params(ignore_eos=True))
    with pytest.raises(ValueError, match="ignore_eos"):
        check(Params({"gemkr_clue": True}, ignore_eos=True))
    with pytest.raises(DecodingError, match="the request has none"):
        processor.update_state(update(1, added=[(0, Params({"gemkr_clue": True}, set()), [1], [])]))
    processor.update_state(update(1, added=[(0, clue(), [1], [-1])]))
    with pytest.raises(ModelError, match="66 tokens but the model scores only 9"):
        processor.apply(torch.zeros(1, 9))
    with pytest.raises(DecodingError, match="asynchronous scheduling"):
        processor.apply(torch.zeros(1, WIDTH))
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("GEMKR_VLLM_INDEX", str(tmp_path))
        with pytest.raises(ValueError, match=r"set it to a file .*, or to a collection"):
            check(clue())
    monkeypatch.delenv("GEMKR_VLLM_INDEX")
    with pytest.raises(ValueError, match="GEMKR_VLLM_INDEX is ''"):
        check(clue())
    fresh = adapter.ClueLogitsProcessor(SimpleNamespace(), torch.device("cpu"), False)
    fresh.update_state(update(1, added=[(0, Params(), [1], [])]))
    with pytest.raises(DecodingError, match="knows no index"):
        fresh.update_state(update(1, added=[(0, clue(), [1], [])]))


def test_without_vllm_there_is_one_sentence(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    monkeypatch.delitem(sys.modules, "gemkr.decoding.engines.vllm", raising=False)
    module = importlib.import_module("gemkr.decoding.engines.vllm")
    with pytest.raises(DecodingError, match="vLLM is not installed"):
        module.ClueLogitsProcessor(SimpleNamespace(), torch.device("cpu"), False)
    sys.modules.pop("gemkr.decoding.engines.vllm", None)
