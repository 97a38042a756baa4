"""Pictures of documents over HTTP: ids of the configuration's folder, within the bounds of those that questions bring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from serve.live import listening
from tiny_pictures import WORDS, save_pictures, save_tiny_clip
from toy_text import train_sentencepiece

from gemkr.client import Client, ServiceError
from gemkr.collection.collection import Collection
from gemkr.config.files import load_config
from gemkr.evaluation.config import EvalConfig
from gemkr.serve.service import Service
from gemkr.types import Document

NEW = Document("new", "", image="two")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_pictures(tmp_path / "pictures", ["one", "two", "three"])
    Image.new("RGB", (200, 200), "red").save(tmp_path / "pictures" / "large.png")
    Image.new("RGB", (20, 20), "red").save(tmp_path / "secret.png")
    (tmp_path / "pictures" / "broken.png").write_text("no picture")
    save_tiny_clip(tmp_path / "clip", WORDS)
    documents = [Document("a", "a photo", image="one"), Document("b", "a photo", image="three")]
    tokenizer = train_sentencepiece(tmp_path / "t.model")
    Collection.create(tmp_path / "corpus", tokenizer=tokenizer, documents=documents)
    (tmp_path / "serve.yaml").write_text(
        "corpus: corpus\nimages: pictures\nretrievers:\n  clip: {kind: dense, encoder: {kind: clip_sf, folder: clip}}\n"
        "serve: {most_pixels: 5000}\n"
    )
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with listening(Service(load_config(folder / "serve.yaml", EvalConfig)), key="k") as url:
        yield Client(url, key="k")


def best(client: Client, picture: str) -> Document:
    return client.ask(picture=picture).hits[0].document


def test_a_document_is_found_by_the_picture_that_it_was_given(client: Client) -> None:
    assert client.add([NEW])["documents"] == 3
    assert best(client, "two") == NEW
    assert (
        client.update([Document("new", "", image="three"), Document("b", "", image="two")])["documents"] == 3
    )
    assert client.document("new") == Document("new", "", image="three")
    assert best(client, "two").doc_id == "b"
    assert client.update([Document("b", "a photo")])["documents"] == 3
    assert client.document("b") == Document("b", "a photo")


@pytest.mark.parametrize(
    ("image", "status", "fault"),
    [
        (
            "nowhere",
            422,
            "the picture 'nowhere' is not in the configuration's folder of pictures; put it there",
        ),
        ("../secret", 422, "is not in the configuration's folder"),
        ("/etc/passwd", 422, "is not in the configuration's folder"),
        ("one\0", 422, "is not in the configuration's folder"),
        ("x" * 5000, 422, "is not in the configuration's folder"),
        ("large", 413, "the picture has 40,000 pixels, the limit is 5,000; scale it down"),
        ("broken", 422, "is no picture of a known format"),
        ("", 422, "image"),
        ("\ud800", 422, "image"),
    ],
)
def test_other_pictures_are_refused_and_nothing_is_changed(
    client: Client, image: str, status: int, fault: str
) -> None:
    before = client.document("a")
    for write, doc_id in ((client.add, "new"), (client.update, "a")):
        with pytest.raises(ServiceError, match=fault) as error:
            write(
                [
                    Document("b2" if write == client.add else "b", "fine"),
                    Document(doc_id, "text", image=image),
                ]
            )
        assert error.value.status == status
    assert client.document("a") == before
    assert len(client.ask("a photo").hits) == 2


def test_a_picture_that_a_question_brought_is_not_there_for_good(client: Client, folder: Path) -> None:
    given = client.add_picture(folder / "secret.png")["id"]
    with pytest.raises(ServiceError, match="is not in the configuration's folder"):
        client.add([Document("new", "", image=given)])
