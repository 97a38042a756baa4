"""The prompt: one text for names and for visual tokens, labels on the clue alone, legal and illegal queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from gemkr.errors import DataError, ModelError
from gemkr.models.gemkr.fields import fit
from gemkr.models.gemkr.prompt import IGNORED_LABEL, Template, VisualSlot, build_sample, default_template
from gemkr.text.tokenizer import load_tokenizer
from gemkr.types import Query

QUERY = Query(
    "q1",
    "What is the capital of the country on the left?",
    "scene",
    caption="three flags",
    detections=("flag", "wall"),
)


class Words:
    """A tokenizer of words: id = position of first use; BOS 1, EOS 2."""

    bos_id, eos_ids = 1, (2,)

    def __init__(self) -> None:
        self.words = ["<unk>", "<s>", "</s>"]

    def encode(self, text: str) -> list[int]:
        for word in text.split():
            if word not in self.words:
                self.words.append(word)
        return [self.words.index(word) for word in text.split()]

    def text(self, tokens: np.ndarray) -> str:
        return " ".join(self.words[t] for t in tokens)


@pytest.fixture
def words() -> Words:
    return Words()


def test_filled_slot_reads_like_text(words: Words) -> None:
    names = build_sample(QUERY, words, image=["France", "Japan", "Kenya"], form="short")
    slot = build_sample(QUERY, words, image=VisualSlot(whole=0, regions=3), form="short")
    filled = slot.tokens.copy()
    filled[slot.visual] = [words.encode(name)[0] for name in ("France", "Japan", "Kenya")]
    assert filled.tolist() == names.tokens.tolist()
    assert "### Image: France , Japan , Kenya . ### Form: short ### Response:" in words.text(names.tokens)


def test_what_a_query_says_is_read_as_the_index_reads(words: Words) -> None:
    plain = replace(QUERY, question="What café is it?", caption="a café", detections=("café table", "wall"))
    odd = replace(
        plain,
        question=" What\u00a0cafe\u0301\nis  it?",
        caption="a\tcafe\u0301 ",
        detections=("cafe\u0301\u3000table", "wall"),
    )
    ways = {"caption": True, "detections": True}
    assert (
        build_sample(odd, words, **ways).tokens.tolist() == build_sample(plain, words, **ways).tokens.tolist()
    )


def test_whole_picture_tokens_come_first_and_without_separators(words: Words) -> None:
    sample = build_sample(QUERY, words, image=VisualSlot(whole=3, regions=2))
    first = sample.visual[0]
    assert sample.visual.tolist() == [first, first + 1, first + 2, first + 3, first + 5]
    assert words.text(sample.tokens[first + 4 : first + 5]) == ","
    assert words.text(sample.tokens[first + 6 : first + 7]) == "."


def test_labels_are_the_clue_and_eos_only(words: Words) -> None:
    sample = build_sample(QUERY, words, image=VisualSlot(1), clue=[7, 0, 9])
    assert sample.tokens[0] == 1
    assert sample.tokens[sample.prompt_length :].tolist() == [7, 0, 9, 2]
    assert (sample.labels[: sample.prompt_length] == IGNORED_LABEL).all()
    assert sample.labels[sample.prompt_length :].tolist() == [7, 0, 9, 2]
    prompt = build_sample(QUERY, words, image=VisualSlot(1))
    assert prompt.tokens.tolist() == sample.tokens[: sample.prompt_length].tolist()


def test_optional_sections(words: Words) -> None:
    text_only = words.text(build_sample(QUERY, words).tokens)
    assert "### Image" not in text_only
    assert "flags" not in text_only
    assert "### Form" not in text_only
    full = words.text(build_sample(QUERY, words, caption=True, detections=True).tokens)
    assert "### Caption: three flags ### Objects: flag , wall ### Response:" in full
    picture_only = words.text(build_sample(Query("q", image="scene"), words, image=VisualSlot(2)).tokens)
    assert "### Question" not in picture_only
    assert "### Image:" in picture_only


def test_marks_in_a_question_are_plain_text(words: Words) -> None:
    sample = build_sample(
        Query("q", "What is <ImageHere> {form} {x}?"), words, image=VisualSlot(1), form="long"
    )
    assert "What is <ImageHere> {form} {x}? ### Image:" in words.text(sample.tokens)
    assert len(sample.visual) == 1


def test_a_query_without_question_and_picture_is_named(words: Words) -> None:
    with pytest.raises(DataError, match="'q7' has no question and no picture"):
        build_sample(Query("q7", image="scene"), words)


def test_unknown_form(words: Words) -> None:
    with pytest.raises(ModelError, match="'medium'"):
        build_sample(QUERY, words, form="medium")


def test_a_long_prompt_loses_words_of_the_query_but_never_the_slot(words: Words) -> None:
    whole = build_sample(QUERY, words, image=VisualSlot(2), caption=True, detections=True)
    short = build_sample(
        QUERY,
        words,
        image=VisualSlot(2),
        caption=True,
        detections=True,
        max_prompt_tokens=whole.prompt_length - 7,
    )
    assert short.prompt_length <= whole.prompt_length - 7
    assert len(short.visual) == 2
    assert "Objects" not in words.text(short.tokens)
    assert "the left?" in words.text(short.tokens)
    with pytest.raises(ModelError, match="allowed are 5"):
        build_sample(QUERY, words, image=VisualSlot(2), max_prompt_tokens=5)


def test_a_prompt_without_a_picture_keeps_a_word_of_the_query(words: Words) -> None:
    query = Query("7", "Who is it")
    sizes = [build_sample(Query("7", text), words).prompt_length for text in ("Who", "Who is it")]
    assert "Who" in words.text(build_sample(query, words, max_prompt_tokens=sizes[0]).tokens)
    with pytest.raises(ModelError, match=f"{sizes[0] - 1} tokens has no room for a word of the query '7'"):
        build_sample(query, words, max_prompt_tokens=sizes[0] - 1)


def test_a_passage_is_cut_first_and_fills_the_room_there_is(words: Words) -> None:
    template, passage = Template.load("reader"), "one two three four five six"

    def text(most: int | None, given: str | None = passage) -> str:
        sample = build_sample(
            QUERY, words, caption=True, template=template, passage=given, max_prompt_tokens=most
        )
        assert most is None or len(sample.tokens) <= most
        return words.text(sample.tokens)

    whole = text(None)
    assert whole.endswith("Caption: three flags Passage: one two three four five six Answer:")
    length = len(whole.split())
    for dropped in range(6):
        left = " ".join(passage.split()[: 6 - dropped])
        assert text(length - dropped).endswith(f"three flags Passage: {left} Answer:")
    assert text(length - 6).endswith("three flags Answer:")
    assert text(length - 7) == text(None, None)
    assert text(length - 8).endswith("Caption: three Answer:")
    with pytest.raises(DataError, match="'q7' has no question and no picture"):
        build_sample(Query("q7"), words, template=template, passage=passage)


@pytest.mark.parametrize("title", ["", "fox "])
def test_a_passage_without_spaces_is_cut_inside(title: str) -> None:
    """Chinese has no words to leave out: such a passage was left out as a whole."""
    fields = {"question": "ask", "passage": f"{title}{'狐狸住在河边' * 20}"}
    found = fit(fields, lambda fields: fields["passage"], len, 50, "q", picture=False)
    assert found == fields["passage"][:50]


def test_templates_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="exactly once"):
        Template.parse("### Question: {question}")
    with pytest.raises(ModelError, match="cannot be read"):
        Template.load(tmp_path / "none.txt")
    (tmp_path / "own.txt").write_text("Q: {question}\nI: <ImageHere>\nA:")
    assert Template.load(tmp_path / "own.txt").sections[-1] == "A:"
    assert default_template().sections[-1] == "### Response:"


def test_a_template_may_hold_line_ends(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text(
        r"Do it.\n\n### Q:\n{question}\n\n### I:\n<ImageHere>\n\n### A:\n" + "\n"
    )
    template = Template.load(tmp_path / "own.txt")
    before, after = template.render({"question": r"What is C:\new ?"}, image=True)
    assert before == "Do it.\n\n### Q:\nWhat is C:\\new ?\n\n### I:\n"
    assert after == "\n\n### A:\n"


def test_sections_without_a_space_between_them() -> None:
    """LamRA-Rank was trained on parts of a chat, which nothing separates; the spaces inside are those of its code."""
    template = Template.load("lamra_rank")
    asked = (
        "I will provide you with a query and a candidate. Please evaluate whether the candidate" + 24 * " " + "meets the requirements "
        "of the query. If it does, respond with 'Yes'; if it doesn't, responed with 'No'."
    )  # fmt: skip
    fields = {"question": "Find it.", "caption": "", "detections": "", "form": "", "passage": "A fox."}
    assert template.render(fields, image=True) == (f"{asked}Query:", "Find it.Candidate:A fox.")
    assert template.render(fields, image=False) == (f"{asked}Query:Find it.Candidate:A fox.", None)
    assert template.render({**fields, "question": ""}, image=True) == (f"{asked}Query:", "Candidate:A fox.")
    mixed = Template.parse("a\n\\+b\nc <ImageHere> d\n\\+{question}\ne\n")
    assert mixed.render(fields, image=True) == ("ab c", "dFind it. e")


@pytest.mark.shared
def test_the_llama_tokenizer_gives_the_same_ids_for_slot_and_text(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "llama_tokenizer" / "tokenizer.model")
    names = build_sample(QUERY, tokenizer, image=["France", "Japan"], form="long")
    slot = build_sample(QUERY, tokenizer, image=VisualSlot(0, 2), form="long")
    filled = slot.tokens.copy()
    filled[slot.visual] = [tokenizer.encode("France")[0], tokenizer.encode("Japan")[0]]
    assert filled.tolist() == names.tokens.tolist()


@pytest.mark.shared
def test_a_template_with_line_ends_gives_the_ids_of_its_two_halves(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "llama_tokenizer" / "tokenizer.model"
    plain = SentencePieceProcessor(model_file=str(path))
    (tmp_path / "own.txt").write_text(r"Do it.\n\n### Q:\n{question}\n\n### I:\n<ImageHere>\n\n### A:\n")
    template = Template.load(tmp_path / "own.txt")
    sample = build_sample(
        Query("1", "What is it?"), load_tokenizer(path), image=VisualSlot(3), template=template
    )
    before, after = "Do it.\n\n### Q:\nWhat is it?\n\n### I:\n", "\n\n### A:\n"
    assert sample.tokens.tolist() == [1, *plain.encode(before), 0, 0, 0, *plain.encode(after)]
