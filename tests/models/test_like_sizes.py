"""Batches of items of like sizes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from gemkr.models.batching import document_sizes, like_sizes, token_counts
from gemkr.types import Document


def test_batches_go_from_the_largest_to_the_smallest_and_hold_each_number_once():
    sizes = np.random.default_rng(0).integers(0, 50, 103).tolist()
    batches = list(like_sizes(sizes, 10))
    assert [len(batch) for batch in batches] == [10] * 10 + [3]
    flat = [number for batch in batches for number in batch]
    assert sorted(flat) == list(range(103))
    assert [sizes[number] for number in flat] == sorted(sizes, reverse=True)


def test_equal_sizes_keep_their_order_and_nothing_gives_no_batch():
    assert list(like_sizes([0] * 5, 2)) == [[0, 1], [2, 3], [4]]
    assert list(like_sizes([], 2)) == []


def test_documents_with_pictures_are_encoded_together_and_characters_count_without_a_tokenizer():
    documents = [Document("a", "one two"), Document("b", "x", image="b.png"), Document("c", "one two three")]
    sizes = document_sizes(SimpleNamespace(), documents)
    assert list(like_sizes(sizes, 3)) == [[1, 2, 0]]
    assert token_counts(None, ["abc", ""]) == [3, 0]


def test_tokens_count_and_not_characters():
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    plain = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    plain.pre_tokenizer = Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, model_max_length=4)
    texts = ["incomprehensibilities", "a b c", "a b c d e f g", ""]
    assert token_counts(tokenizer, texts) == [1, 3, 7, 0]
