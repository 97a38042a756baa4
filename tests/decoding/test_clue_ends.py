# ruff: noqa: RUF001
"""Ten thousand random decodings over many scripts: every clue is a piece of its document as a person reads it.

Under tokenizers whose tokens are parts of characters; the oracle is Unicode's own segmentation, through `regex`.
"""

from __future__ import annotations

import io
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import regex
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gemkr.decoding.beam import TAIL, beam_search, generate_clues
from gemkr.decoding.config import DecodingConfig
from gemkr.decoding.constraint import IndexConstraint
from gemkr.decoding.device import DeviceConstraint, DeviceIndex
from gemkr.decoding.engines.processor import IndexLogitsProcessor
from gemkr.decoding.matcher import ClueMatcher
from gemkr.errors import DecodingError
from gemkr.fm_index import FMIndex
from gemkr.retrievers.generative.ends import ending_documents
from gemkr.testing import RandomLM, ScriptedLM, TableLM
from gemkr.text.borders import FREE, NEVER, WORD, Borders, borders_of
from gemkr.text.normalize import normalize
from gemkr.text.tokenizer import Tokenizer, load_tokenizer
from gemkr.types import Clue

CORPUS = [
    "The barn owl\nhunts voles; the naïve cityscape painter isn't in the city.",
    "The nai\u0308ve caf\u00e9 owner\r\n\tsells cre\u0302pes in Zu\u0308rich\u00a0today\u3000(1889)",
    "القطة تنام في المدينة القديمة، والبومةُ تصطادُ الفئرانَ ليلاً",
    "כָּל הַחֲתוּלִים יְשֵׁנִים בַּבַּיִת; הינשוף צד עכברים בלילה",
    "แมวนอนหลับอยู่ในบ้าน นกฮูกล่าหนูในเวลากลางคืน น้ำใสไหลเย็น ปี 2563",
    "बिल्ली घर में सोती है और उल्लू रात में चूहों का शिकार करता है। क्षत्रिय अर्थात् ज्ञान",
    "猫在房子里睡觉，猫头鹰在夜里捕捉老鼠。北京是中国的首都ABC。",
    "猫は家で寝ています。フクロウは夜にネズミを狩る。トラック",
    "고양이는 집에서 잔다. 부엉이는 밤에 쥐를 사냥한다. \u1112\u119e\u11ab글",
    "The family 👩‍👩‍👧‍👦 is here👍🏽👍🏿 with 🇩🇪🇫🇷 flags ❤️‍🔥 and 🏴󠁧󠁢󠁥󠁮󠁧󠁿 too",
    "x\u0302 + y\u0302\u0304 = z\u0301\u0323 over q\u0308w and  e\u0301e\u0301e\u0301",
    "Ноч\u0438\u0306 сова охотится\u2028на поле\u0301вок\u2029в городе й",
    "தமிழ் மொழி பேசும் ஆந்தை; മലയാളം ഭാഷ",
    "ခေါင်းမာသော မြန်မာဘာသာ ខ្មែរ ភាសាខ្មែរ ລາວ",
    "na na naïve naïveté citylights city ski skiing ski",
]
WORD_LETTER = regex.compile(r"[\p{Alphabetic}\p{N}_]")
SPACELESS = regex.compile(
    r"[\p{L}\p{M}&&[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}ー]]", regex.V1
)
FREE_LENGTH = DecodingConfig(
    beam_size=2, groups=1, diversity=0.0, length_penalty=0.0, max_tokens=6, batch_size=128
)
EVERY_WAY = {
    "words": FREE_LENGTH,
    "words from their start": replace(FREE_LENGTH, word_start=True),
    "characters": replace(FREE_LENGTH, end_at_word=False),
    "characters as published": DecodingConfig(beam_size=2, groups=2, max_tokens=5, batch_size=128),
    "one document": replace(FREE_LENGTH, stop_at_one_document=True, document_penalty=2.0, max_tokens=4),
}
DECODINGS = 10_000


def train(kind: str, folder: Path) -> Tokenizer:
    lines = [normalize(text) for text in CORPUS] * 20
    if kind == "byte-level":
        from tokenizers import Tokenizer as Engine
        from tokenizers import decoders, models, pre_tokenizers, trainers

        engine = Engine(models.BPE())
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        engine.decoder = decoders.ByteLevel()
        engine.train_from_iterator(
            lines,
            trainers.BpeTrainer(
                vocab_size=520,
                special_tokens=["<|endoftext|>"],
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        )
        engine.save(str(folder / "tokenizer.json"))
        return load_tokenizer(folder)
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=600 if "fallback" in kind else 420,
        model_type="unigram" if "unigram" in kind else "bpe",
        byte_fallback="fallback" in kind,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.98,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return load_tokenizer(folder)


KINDS = ["bpe, byte fallback", "byte-level", "unigram, byte fallback", "unigram"]


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train(request.param, tmp_path_factory.mktemp("tokenizer"))


@lru_cache
def cuts(text: str) -> tuple[frozenset[int], frozenset[int]]:
    """The places in a text where characters end, and where words do, by Unicode's properties."""
    ends = [0, *(found.end() for found in regex.finditer(r"\X", text))]
    words = {0, len(text)}
    for before, at, after in zip(ends, ends[1:], ends[2:]):
        left, right = text[before:at], text[at:after]
        parted = WORD_LETTER.match(left) and WORD_LETTER.match(right)
        if not left.isspace() and (not parted or SPACELESS.match(left) or SPACELESS.match(right)):
            words.add(at)
    return frozenset(ends), frozenset(words)


class Read:
    """The corpus through a tokenizer: which places of a document's text each token takes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.texts = [normalize(text) for text in CORPUS]
        self.tokens = tokenizer.encode_batch(CORPUS)
        self.index = FMIndex.build(self.tokens, tokenizer=tokenizer, threads=1)

    @lru_cache  # noqa: B019 - lives as long as a test
    def occurrences(self, tokens: tuple[int, ...], doc: int) -> list[tuple[int, int]]:
        """The bytes of " " + text that each occurrence of a clue takes, where every token of the document has a text."""
        known = self.tokens[doc]
        pieces = [self.tokenizer.piece_bytes(t) or self._unknown(doc) for t in known]
        place = np.cumsum([0, *map(len, pieces)]).tolist()
        size = len(tokens)
        return [
            (place[i], place[i + size])
            for i in range(len(known) - size + 1)
            if tuple(known[i : i + size]) == tokens
        ]

    def _unknown(self, doc: int) -> bytes:
        raise LookupError(doc)

    def check(self, clue: Clue, config: DecodingConfig) -> None:
        docs, _ = self.index.documents(clue.span)
        counted, told = 0, True
        for doc in docs.tolist():
            text = self.texts[doc]
            assert clue.text in text
            assert "\ufffd" not in clue.text
            try:
                places = self.occurrences(clue.tokens, doc)
            except LookupError:
                told = False
                continue
            raw = f" {text}".encode()
            for begin, end in places:
                head, body, tail = raw[:begin].decode(), raw[begin:end].decode(), raw[end:].decode()
                assert body.removeprefix(" ") == clue.text
                assert head + body + tail == f" {text}"
                characters, words = cuts(text)
                at = len(head + body) - 1
                start = len(head) if body.startswith(" ") else len(head) - 1
                if config.word_start:
                    assert start in characters
                    assert body.startswith(" ")
                counted += at in (words if config.ends_at_words else characters)
        if told:
            assert counted >= clue.count > 0


@pytest.mark.parametrize("way", EVERY_WAY)
def test_random_clues_are_pieces_of_their_documents(tokenizer: Tokenizer, way: str) -> None:
    config, read = EVERY_WAY[way], Read(tokenizer)
    size = tokenizer.vocab_size
    rng = np.random.default_rng(len(way))
    table = rng.normal(scale=2.0, size=(size, size)).astype(np.float32)
    table[:, list(tokenizer.eos_ids)] += 3.0
    prompts = [f"{way} {number}" for number in range(DECODINGS // (len(KINDS) * len(EVERY_WAY)))]
    borders = borders_of(tokenizer, size, words=config.ends_at_words)
    found = generate_clues(
        TableLM(table, tokenizer.eos_ids),
        read.index,
        prompts,
        config,
        word_start=tokenizer.word_start,
        borders=borders,
        tokenizer=tokenizer,
    )
    assert len(found) == len(prompts)
    assert sum(map(bool, found)) > 0.9 * len(found)
    for clue in {clue.tokens: clue for clues in found for clue in clues}.values():
        assert len(clue.tokens) <= config.max_tokens + TAIL
        read.check(clue, config)


VOCAB = 7
EOS = 2
CLASSES = st.lists(st.sampled_from([NEVER, WORD, FREE]), min_size=VOCAB, max_size=VOCAB)
FLAGS = st.lists(st.sampled_from([True, True, True, False]), min_size=VOCAB, max_size=VOCAB)
SMALL_CORPORA = st.lists(st.lists(st.sampled_from([0, 1, 3, 4, 5, 6]), max_size=9), min_size=1, max_size=5)


@st.composite
def some_borders(draw: st.DrawFn) -> Borders:
    first, last = (np.array(draw(CLASSES), dtype=np.int8) for _ in range(2))
    begins, texts = (np.array(draw(FLAGS)) for _ in range(2))
    return Borders(first, last, begins & texts, texts)


def endings_of(docs: list[list[int]], borders: Borders, longest: int) -> dict[tuple[int, ...], list[int]]:
    """Every clue of tokens with a text that begins where clues may: how often it ends where it may, in each document."""
    found: dict[tuple[int, ...], list[int]] = {}
    for number, doc in enumerate(docs):
        for i in range(len(doc)):
            for j in range(i + 1, min(len(doc), i + longest) + 1):
                clue = tuple(doc[i:j])
                if not borders.begins[clue[0]] or not borders.texts[list(clue)].all():
                    break
                may = j == len(doc) or borders.last[doc[j - 1]] * borders.first[doc[j]] > WORD
                found.setdefault(clue, [0] * len(docs))[number] += may
    return found


def plain_log_probs(model: RandomLM, prefix: tuple[int, ...]) -> np.ndarray:
    logits = torch.from_numpy(np.asarray(model.logits_of("q", prefix), dtype=np.float32))
    return torch.log_softmax(logits, dim=-1).double().numpy()


@settings(deadline=None, max_examples=80)
@given(docs=SMALL_CORPORA, borders=some_borders(), seed=st.integers(0, 10**6), longest=st.integers(1, 5))
def test_a_wide_beam_finds_exactly_the_clues_that_may_end(docs, borders, seed, longest) -> None:
    index, model = FMIndex.build(docs, vocab_size=VOCAB, threads=1), RandomLM(VOCAB, (EOS,), seed=seed)
    known = endings_of(docs, borders, longest + TAIL + 1)
    config = replace(FREE_LENGTH, beam_size=4 * len(known) + 1, max_tokens=longest)
    if not known:
        with pytest.raises(DecodingError):
            generate_clues(model, index, ["q"], config, borders=borders)
        return
    (clues,) = generate_clues(model, index, ["q"], config, borders=borders)
    expected = {}
    for tokens, times in known.items():
        if len(tokens) <= longest and sum(times):
            total = sum(plain_log_probs(model, tokens[:i])[t] for i, t in enumerate(tokens))
            goes_on = len(tokens) < longest and any((*tokens, t) in known for t in range(VOCAB))
            expected[tokens] = total + (plain_log_probs(model, tokens)[EOS] if goes_on else 0.0)
    short = [clue for clue in clues if len(clue.tokens) <= longest]
    assert {clue.tokens for clue in short} == set(expected)
    for clue in clues:
        assert clue.count == sum(known[clue.tokens]) > 0
        where = [doc for doc, times in enumerate(known[clue.tokens]) if times]
        behind = borders.after(clue.tokens[-1])
        assert sorted(ending_documents(index, clue.span, behind, 1000).tolist()) == where
        if clue in short:
            assert clue.log_prob == pytest.approx(expected[clue.tokens], abs=1e-4)
        else:
            assert not any(sum(known[clue.tokens[:n]]) for n in range(longest, len(clue.tokens)))


@settings(deadline=None, max_examples=60)
@given(
    docs=SMALL_CORPORA.filter(any),
    borders=some_borders(),
    seed=st.integers(0, 10**6),
    allow_eos=st.booleans(),
    stop=st.booleans(),
)
def test_the_device_ends_clues_where_the_host_does(docs, borders, seed, allow_eos, stop) -> None:
    index = FMIndex.build(docs, vocab_size=VOCAB, threads=1)
    try:
        matcher = ClueMatcher(index, stop_tokens=(EOS,), allow_eos=allow_eos, borders=borders)
    except DecodingError:
        return
    config = replace(FREE_LENGTH, max_tokens=3, stop_at_one_document=stop, beam_size=4)
    model, prompts = RandomLM(VOCAB, (EOS,), seed=seed), ["a", "b", "c"]
    here = beam_search(model, IndexConstraint(matcher, (EOS,)), prompts, config)
    device = DeviceConstraint(DeviceIndex.build(index, "cpu", block=4), matcher, (EOS,))
    assert beam_search(model, device, prompts, config) == here


def test_transformers_door_ends_clues_with_words(tokenizer: Tokenizer) -> None:
    """Sampling by hand: what `generate` would do, until the end token."""
    read, size, eos = Read(tokenizer), tokenizer.vocab_size, tokenizer.eos_ids[0]
    borders = borders_of(tokenizer, size, words=True)
    rng, ended = np.random.default_rng(0), 0
    for _ in range(10):
        door = IndexLogitsProcessor(read.index, eos, prompt_length=0, borders=borders)
        rows = torch.zeros((8, 0), dtype=torch.int64)
        for _ in range(25):
            logits = torch.from_numpy(rng.normal(size=(8, size)).astype(np.float32))
            logits[:, eos] += 6
            chosen = door(rows, logits).softmax(dim=-1).multinomial(1)
            rows = torch.cat([rows, chosen], dim=1)
        for row in rows.tolist():
            if eos in row:
                tokens = tuple(row[: row.index(eos)])
                lo_hi = read.index.search(tokens)
                clue = Clue(tokens, tokenizer.decode(tokens), 0.0, 0.0, lo_hi, 1)
                if door.is_whole(row):
                    ended += 1
                    read.check(clue, FREE_LENGTH)
    assert ended > 50


def test_half_a_word_is_no_clue() -> None:
    """`na` stands only in naïve: whatever the model wants, it goes on; `ski` also stands alone, which alone is counted."""
    na, ive, ski, ing, stop = 3, 4, 5, 6, 7
    docs = [[na, ive, stop], [ski, ing, stop], [ski, ing], [na, ive, ski, stop]]
    first = np.array([0, 0, 0, FREE, WORD, FREE, WORD, FREE], dtype=np.int8)
    last = np.array([0, 0, 0, WORD, WORD, WORD, WORD, FREE], dtype=np.int8)
    every = first > NEVER
    borders = Borders(first, last, every, every)
    index = FMIndex.build(docs, vocab_size=8, threads=1)
    model = ScriptedLM(8, EOS, {"q": {(na,): 0.5, (ski,): 0.4, (ski, ing): 0.1}})
    (clues,) = generate_clues(model, index, ["q"], replace(FREE_LENGTH, max_tokens=1), borders=borders)
    assert {clue.tokens: (clue.count, clue.span.count) for clue in clues} == {
        (ski,): (1, 3),
        (na, ive): (2, 2),
    }
    (clues,) = generate_clues(model, index, ["q"], replace(FREE_LENGTH, max_tokens=1))
    assert {clue.tokens for clue in clues} == {(ski,), (na,)}


def test_where_clues_end_is_decided_by_their_length() -> None:
    assert FREE_LENGTH.ends_at_words
    assert not DecodingConfig().ends_at_words
    assert DecodingConfig(end_at_word=True).ends_at_words
    assert not replace(FREE_LENGTH, end_at_word=False).ends_at_words
    index = FMIndex.build([[3, 4]], vocab_size=5, threads=1)
    with pytest.raises(DecodingError, match="needs to know where words end"):
        generate_clues(RandomLM(5), index, ["q"], replace(FREE_LENGTH, end_at_word=True))
    narrow = Borders(*np.ones((2, 3), dtype=np.int8), *np.ones((2, 3), dtype=bool))
    with pytest.raises(DecodingError, match="borders cover 3 tokens but the index's vocabulary has 5"):
        generate_clues(RandomLM(5), index, ["q"], FREE_LENGTH, borders=narrow)
