"""The file of answers: what is written is read again, whatever moment it was cut at; one process at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemkr.data.answers import AnswerLog, from_record, read_answers, to_record, write_answers
from gemkr.errors import DataError
from gemkr.types import Answer, ReadPassage

NUMBERS = st.floats(-50, 0)
ANSWERS = st.builds(
    Answer,
    st.text(min_size=1),
    st.text(),
    st.none() | st.text(),
    NUMBERS,
    st.lists(st.builds(ReadPassage, st.text(), NUMBERS, NUMBERS), max_size=3).map(tuple),
    st.lists(st.tuples(st.text(), NUMBERS), max_size=2).map(tuple),
    st.dictionaries(st.text(), NUMBERS, max_size=3),
    st.none() | st.floats(0, 1),
    st.none() | st.booleans(),
)
FIRST = Answer(
    "1", "Ω fox", "d1", -0.5, (ReadPassage("d1", 1.0, 1.0),), (("hen", -2.0),), {"margin": 1.5}, 0.7, False
)


@given(ANSWERS)
def test_a_record_is_read_as_it_was_written(answer: Answer) -> None:
    assert from_record(to_record(answer)) == answer


def test_a_log_cut_anywhere_goes_on_after_its_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_answers(path, [FIRST])
    whole = path.read_bytes()
    for cut in range(0, len(whole) * 2, 7):
        path.write_bytes((whole + whole.replace(b'"1"', b'"2"'))[:cut])
        with AnswerLog(tmp_path) as log:
            assert len(log.done) == cut // len(whole)
            log.append(FIRST)
        assert list(read_answers(path))[-1] == FIRST
    with AnswerLog(tmp_path, restart=True) as log:
        assert log.done == set()


def test_two_logs_and_broken_lines(tmp_path: Path) -> None:
    with AnswerLog(tmp_path) as log:
        log.append(FIRST)
        with pytest.raises(DataError, match="another process is writing into"):
            AnswerLog(tmp_path)
    (tmp_path / "answers.jsonl").write_text('{"query_id": "1"}\n')
    with pytest.raises(
        DataError, match=r"answers\.jsonl:1: this is no record of an answer \(KeyError\('answer'\)\)"
    ):
        AnswerLog(tmp_path)
    (tmp_path / "answers.jsonl").write_text("{\n{}\n")
    with pytest.raises(DataError, match=r"answers\.jsonl:1: "):
        list(read_answers(tmp_path / "answers.jsonl"))
