"""Queries with hostile arguments, from many threads, and after a fork."""

from __future__ import annotations

import os

import numpy as np
import pytest
from toy_index import toy_index

from gemkr.fm_index import FMIndex, IndexQueryError, Span


def test_hostile_arguments_are_refused():
    index = toy_index()
    n = index.n_rows
    rows = np.array([0])
    bad = [
        lambda: index.next_tokens(Span(0, n + 1)),
        lambda: index.extend(Span(n + 1, n + 1), 1),
        lambda: index.count_ends(Span(0, 2**62)),
        lambda: index.documents(Span(0, n + 1)),
        lambda: index.documents(index.root, -1),
        lambda: index.locate(Span(0, n, 99)),
        lambda: index.extract(len(index)),
        lambda: index.extract(-1),
        lambda: index.extract(0, -1),
        lambda: index.extract(0, 0, -1),
        lambda: index.extend_many(rows, rows + n + 1, rows),
        lambda: index.extend_many(rows - 1, rows, rows),
        lambda: index.extend_many(rows + 2, rows, rows),
        lambda: index.extend_many(rows, rows, np.array([1, 2])),
        lambda: index.next_tokens_many(rows, np.array([[1]])),
        lambda: index.fill_mask(rows, rows, np.zeros((1, 1), np.uint32)),
        lambda: index.fill_mask(rows, rows, np.zeros((1, 2), np.int64)),
        lambda: index.fill_mask(rows, rows, np.zeros((1, 2), np.dtype(np.uint32).newbyteorder())),
        lambda: index.fill_mask(rows, rows, np.zeros((1, 4), np.uint32)[:, ::2]),
        lambda: index.locate_rows(np.array([n])),
        lambda: index.docs_of_rows(np.array([-1])),
        lambda: index._use_kernels("none"),
    ]
    for call in bad:
        with pytest.raises(IndexQueryError):
            call()
    for call in (
        lambda: index.extend(index.root, "a"),
        lambda: index.extend((0, 1), 1),
        lambda: index.extend(index.root),
        lambda: index.search(3),
        lambda: index.search(["a"]),
        lambda: Span("a", 2),
    ):
        with pytest.raises(TypeError):
            call()
    for call in (lambda: Span(2, 1), lambda: Span(-1, 1), lambda: Span(0, 1, -1)):
        with pytest.raises(ValueError):
            call()
    assert not index.extend(index.root, -1)
    assert not index.extend(index.root, 2**80)
    assert index.search(np.array([1])) == index.search([1])
    locked = np.zeros((1, 2), np.uint32)
    locked.flags.writeable = False
    with pytest.raises(IndexQueryError, match="writable"):
        index.fill_mask(rows, rows, locked)


def test_unopened_index_is_an_error():
    rows = np.array([0])
    for call in (
        lambda index: index.search([1]),
        lambda index: index.extract(0),
        lambda index: index.next_tokens_many(rows, rows),
        lambda index: index.n_tokens,
        len,
    ):
        index = FMIndex.__new__(FMIndex)
        for _ in range(2):
            with pytest.raises(IndexQueryError, match="never opened"):
                call(index)


def test_threads_may_change_while_queries_run():
    from threading import Thread

    index = toy_index()
    lo, hi = np.arange(index.n_rows - 1), np.arange(1, index.n_rows)
    want = [a.tolist() for a in index.next_tokens_many(lo, hi)]
    wrong = []

    def ask() -> None:
        wrong.extend(None for _ in range(60) if [a.tolist() for a in index.next_tokens_many(lo, hi)] != want)

    reader = Thread(target=ask)
    reader.start()
    for threads in range(1, 40):
        index.threads = threads % 4 + 1
    reader.join()
    assert not wrong


def test_answers_are_the_same_in_a_fork_and_in_threads():
    from concurrent.futures import ThreadPoolExecutor

    index = toy_index()
    index.threads = 3
    lo, hi = np.arange(index.n_rows - 1), np.arange(1, index.n_rows)

    def ask(_: int) -> bytes:
        out = np.empty((len(lo), index.mask_words), np.uint32)
        index.fill_mask(lo, hi, out)
        return out.tobytes() + b"".join(a.tobytes() for a in index.next_tokens_many(lo, hi))

    want = ask(0)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(40))) == {want}
    if (child := os.fork()) == 0:
        os._exit(0 if ask(0) == want else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
