"""When two short answers are the same: the normal forms of the VQA evaluation and of SQuAD's.

Both follow the published scripts (GT-Vision-Lab/VQA, SQuAD v1.1), so that scores compare with printed ones.
"""

from __future__ import annotations

import re
import string

ARTICLES = frozenset({"a", "an", "the"})
NUMBERS = dict(
    zip(
        ["none", "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
        ["0", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
    )
)
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
CONTRACTIONS = [
    "ain't",
    "aren't",
    "can't",
    "could've",
    "couldn't",
    "couldn't've",
    "didn't",
    "doesn't",
    "don't",
    "hadn't",
    "hadn't've",
    "hasn't",
    "haven't",
    "he'd",
    "he'd've",
    "he's",
    "how'd",
    "how'll",
    "how's",
    "isn't",
    "it'd",
    "it'd've",
    "it'll",
    "ma'am",
    "might've",
    "mightn't",
    "mightn't've",
    "must've",
    "mustn't",
    "needn't",
    "not've",
    "o'clock",
    "oughtn't",
    "'ow's'at",
    "shan't",
    "she'd've",
    "should've",
    "shouldn't",
    "shouldn't've",
    "somebody'd've",
    "somebody'll",
    "somebody's",
    "someone'd",
    "someone'd've",
    "someone'll",
    "someone's",
    "something'd",
    "something'd've",
    "something'll",
    "that's",
    "there'd",
    "there'd've",
    "there're",
    "there's",
    "they'd",
    "they'd've",
    "they'll",
    "they're",
    "they've",
    "'twas",
    "wasn't",
    "we'd've",
    "we've",
    "weren't",
    "what'll",
    "what're",
    "what's",
    "what've",
    "when's",
    "where'd",
    "where's",
    "where've",
    "who'd",
    "who'd've",
    "who'll",
    "who's",
    "who've",
    "why'll",
    "why're",
    "why's",
    "won't",
    "would've",
    "wouldn't",
    "wouldn't've",
    "y'all",
    "y'all'd've",
    "y'all'll",
    "you'd",
    "you'd've",
    "you'll",
    "you're",
    "you've",
]
"""Words that are also recognised with one of their apostrophes left out."""
_MENDED = {
    word[:at] + word[at + 1 :]: word for word in CONTRACTIONS for at, char in enumerate(word) if char == "'"
} | {"somebody'd": "somebodyd"}  # as the published table has it
_GROUPED = re.compile(r"\d,\d")
_FULL_STOP = re.compile(r"\.(?!\d)")
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def vqa_form(text: str) -> str:
    """What the VQA evaluation compares: lower case, without articles and punctuation, number words as digits, contractions
    with their apostrophes.

    A mark between two words becomes a space; one beside a space, or any in a text with a number such as 1,000, is dropped.
    """
    text = " ".join(text.split())
    grouped = _GROUPED.search(text) is not None
    form = text
    for mark in PUNCTUATION:
        dropped = grouped or f"{mark} " in text or f" {mark}" in text
        form = form.replace(mark, "" if dropped else " ")
    words = (NUMBERS.get(word, word) for word in _FULL_STOP.sub("", form).lower().split())
    return " ".join(_MENDED.get(word, word) for word in words if word not in ARTICLES)


def squad_form(text: str) -> str:
    """What SQuAD's evaluation compares: lower case without punctuation, articles and surplus white space."""
    return " ".join(_ARTICLE.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())
