"""What requests hold, as OpenAPI shows it, and what is wrong with one. pydantic only."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1)]


class Message(BaseModel):
    """Unknown fields are refused, so that a misspelled one is not passed over."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=False)


class Question(Message):
    """One question: words, a picture, or both."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "question": "What is the capital of the country whose flag hangs on the left?",
                    "picture": "test-0000",
                },
                {"question": "Which city was once called Edo?", "retriever": "bm25", "k": 3},
            ]
        },
    )

    question: str = Field("", description="the question")
    picture: str | None = Field(
        None, description="id of a picture: POST /v1/pictures gives one, GET /v1/pictures lists some"
    )
    picture_base64: str | None = Field(None, description="or the picture file itself, in base64")
    box: tuple[Share, Share, Share, Share] | None = Field(
        None,
        description="ask about this part of the picture alone: left, top, right, bottom as shares of its sides",
    )
    instruction: str | None = Field(None, description="what is looked for, for encoders that read it")
    caption: str | None = Field(None, description="a caption of the picture, for models that read it")
    retriever: str | None = Field(None, description="its name; left out, the first of GET /v1/retrievers")
    k: int = Field(5, ge=1, description="how many passages")
    pool: str | None = Field(None, description="answer from this part of the corpus alone")
    evidence: bool = Field(True, description="send the clues of each passage, and where they stand in it")
    clues: bool = Field(True, description="send all clues that the model wrote")
    matches: bool = Field(
        False,
        description="of late interaction: send what the vectors of question and picture found in each passage; encodes k passages",
    )

    @field_validator("question", "instruction", "caption", "picture", "retriever", "pool")
    @classmethod
    def _is_text(cls, value: str | None) -> str | None:
        if value is not None and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("holds half of a surrogate pair, which is no text")
        return value

    @model_validator(mode="after")
    def _asks(self) -> Question:
        if self.picture is not None and self.picture_base64 is not None:
            raise ValueError("give a picture by its id or in base64, not both")
        if self.box is not None:
            if self.picture is None and self.picture_base64 is None:
                raise ValueError("a box is part of a picture; give one")
            left, top, right, bottom = self.box
            if not (left < right and top < bottom):
                raise ValueError("a box is left, top, right, bottom, with left < right and top < bottom")
        if not self.question.strip() and self.picture is None and self.picture_base64 is None:
            raise ValueError("the question is empty; write one, or give a picture")
        return self

    def picture_bytes(self) -> bytes | None:
        """The decoded picture; ValueError for what is no base64."""
        if self.picture_base64 is None:
            return None
        try:
            return base64.b64decode(self.picture_base64, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("picture_base64 is no base64; encode the bytes of the picture file") from error


class Questions(Message):
    """Several questions at once."""

    queries: list[Question] = Field(min_length=1)


def _how_many(body: Any) -> str:
    return "many" if isinstance(body, Questions) or (isinstance(body, dict) and "queries" in body) else "one"


Asked = Annotated[
    Annotated[Question, Tag("one")] | Annotated[Questions, Tag("many")], Discriminator(_how_many)
]
"""One question, or several: those that have `queries`."""


class NewDocument(Message):
    """A document to add, or to take the place of the one with its id."""

    doc_id: str = Field(min_length=1, max_length=200, pattern=r"^\S+$")
    text: str = ""
    title: str = ""
    image: str | None = Field(
        None,
        min_length=1,
        description="id of a picture of the configuration's folder; the text may be empty then",
    )

    @model_validator(mode="after")
    def _holds_something(self) -> NewDocument:
        if not self.text and self.image is None:
            raise ValueError("a document needs a text, or the id of a picture as image")
        return self


class NewDocuments(Message):
    """Documents to add to the collection, or to change in it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"documents": [{"doc_id": "note-1", "text": "The kiosk opens at nine."}]}]
        },
    )

    documents: list[NewDocument] = Field(min_length=1, max_length=1000)
