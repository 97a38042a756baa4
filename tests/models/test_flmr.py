"""The encoder preflmr agrees with its numpy twin, vector by vector, for every mix of text, picture, regions and instruction."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import flmr_twin
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_flmr import save_regions, save_tiny_text
from tiny_pictures import save_pictures, save_tiny_clip

from gemkr.errors import ConfigError, ModelError, VisionError
from gemkr.interfaces import TokenVectors
from gemkr.models.flmr.encoder import PreFLMREncoder
from gemkr.retrievers.late_interaction import LateInteractionRetriever
from gemkr.types import Document, Query
from gemkr.vector_index.token_exact import ExactTokenIndex
from gemkr.vision.crops import crop_boxes
from gemkr.vision.pictures import PictureFolder
from gemkr.vision.store import RegionStore

SIZES = {
    "width": 8,
    "query_tokens": 12,
    "document_tokens": 20,
    "image_tokens": 3,
    "seen_tokens": 7,
    "batch_size": 3,
}
BOXES = {"one": [[2, 2, 12, 20], [8, 4, 22, 30]], "two": [], "three": [[0, 0, 40, 32]]}
QUERIES = [
    Query(f"q{i}", question, image=image, instruction=instruction)
    for i, (question, image, instruction) in enumerate(
        (question, image, instruction)
        for question in (
            "a red cat",
            "",
            "which one of the small big green boats is the bird of the house, a dog or tree?",
        )
        for image in (None, "one", "two")
        for instruction in (None, "find a photo of the house:")
        if question or image or instruction
    )
]
DOCUMENTS = [
    Document("short", "the blue bird"),
    Document("marks", "?, ."),
    Document("nothing"),
    Document("picture", image="two"),
    Document("both", "a boat, of the dog.", "tree", image="one"),
    Document("long", "a photo of the small red cat which is the big green tree, " * 3),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flmr")
    save_tiny_text(folder / "bert")
    save_tiny_text(folder / "xlmr", kind="xlm-roberta")
    save_tiny_clip(folder / "clip")
    pictures = save_pictures(folder / "images", ["one", "two", "three"])
    save_regions(folder / "regions", pictures, BOXES)
    return folder


def encoder(folder: Path, text: str = "bert", **settings: object) -> PreFLMREncoder:
    config = PreFLMREncoder.Config(text=str(folder / text), vision=str(folder / "clip"), **SIZES | settings)
    sources = SimpleNamespace(
        pictures=PictureFolder(folder / "images"), regions=RegionStore.open(folder / "regions")
    )
    return PreFLMREncoder.from_config(config, sources)


def seen(model: PreFLMREncoder, item: Query | Document) -> tuple[np.ndarray | None, list[np.ndarray]]:
    """The pixels of an item's picture and of its crops."""
    if item.image is None:
        return None, []
    picture = model.reader._pictures.open(item.image)
    found = model.reader._regions.get(item.image)
    boxes = SimpleNamespace(image=item.image, size=found.size, boxes=found.boxes)
    crops = crop_boxes(picture, boxes, model.reader.reading.regions)
    pixels = [
        np.asarray(model.reader.processor(images=[one], return_tensors="np")["pixel_values"][0], np.float64)
        for one in (picture, *crops)
    ]
    return pixels[0], pixels[1:]


CASES = {
    "preflmr": {"regions": 2},
    "separate": {"separate": True, "regions": 1},
    "flmr": {"mapping_layers": 0, "regions": 2, "mask_padding": False},
    "xlmr": {"text": "xlmr", "mapping_layers": 2},
    "encn": {"text": "xlmr", "mask_padding": False},
}


@pytest.mark.parametrize("case", CASES)
def test_vectors_agree_with_the_twin(folder: Path, case: str) -> None:
    model = encoder(folder, **CASES[case])
    found = model.encode_queries(QUERIES)
    for number, query in enumerate(QUERIES):
        picture, crops = seen(model, query)
        expected = flmr_twin.query_vectors(model, query, picture, crops)
        own = found.values[found.offsets[number] : found.offsets[number + 1]]
        np.testing.assert_allclose(own, expected, atol=1e-4, err_msg=str(query))
    documents = model.encode_documents(DOCUMENTS)
    for number, document in enumerate(DOCUMENTS):
        expected = flmr_twin.document_vectors(model, document, seen(model, document)[0])
        own = documents.values[documents.offsets[number] : documents.offsets[number + 1]]
        np.testing.assert_allclose(own, expected, atol=1e-4, err_msg=str(document))
    assert np.diff(documents.offsets)[1:3].tolist() == [0, 0]
    np.testing.assert_allclose(np.linalg.norm(found.values, axis=1), 1, atol=1e-5)


def test_batches_and_order_change_nothing(folder: Path) -> None:
    model, queries = encoder(folder, regions=2), QUERIES[::2]
    whole, back = model.encode_queries(queries), model.encode_queries(queries[::-1])
    for number, query in enumerate(queries):
        own = whole.values[whole.offsets[number] : whole.offsets[number + 1]]
        other = len(queries) - 1 - number
        turned = back.values[back.offsets[other] : back.offsets[other + 1]]
        np.testing.assert_allclose(own, turned, atol=1e-5)
        np.testing.assert_allclose(own, model.encode_queries([query]).values, atol=1e-5)
    documents = model.encode_documents(DOCUMENTS)
    singly = np.concatenate([model.encode_documents([document]).values for document in DOCUMENTS])
    np.testing.assert_allclose(documents.values, singly, atol=1e-5)


def test_a_black_picture_for_queries_without_one(folder: Path) -> None:
    model = encoder(folder, black_picture=True)
    query = Query("q", "a red cat")
    shown = model.reader.processor(images=[Image.new("RGB", (16, 16))], return_tensors="np")
    black = shown["pixel_values"][0]
    expected = flmr_twin.query_vectors(model, query, black.astype(np.float64), [])
    np.testing.assert_allclose(model.encode_queries([query]).values, expected, atol=1e-4)


def test_a_hit_is_explained_whatever_its_query_has(folder: Path) -> None:
    """A black picture in place of one that is missing, and a question of white space beside a picture."""
    model = encoder(folder, black_picture=True, regions=1)
    found = model.encode_documents(DOCUMENTS)
    tokens = TokenVectors(found.values.astype(np.float16), found.offsets)
    retriever = LateInteractionRetriever(model, ExactTokenIndex(tokens), [d.doc_id for d in DOCUMENTS])
    by_id = {document.doc_id: document for document in DOCUMENTS}
    for query, blacks in ((Query("q", "a red cat"), 3 + 4), (Query("q", " ", image="one"), 0)):
        (ranking,) = retriever.retrieve([query], 2)
        each = retriever.explain(query, [by_id[hit.doc_id] for hit in ranking.hits])
        for hit, matches in zip(ranking.hits, each, strict=True):
            assert sum(match.score for match in matches) == pytest.approx(hit.score, abs=0.02)
            names = [match.vector.text for match in matches]
            assert names[len(names) - blacks :] == ["black picture"] * blacks
            assert names.count("black picture") == blacks
            assert "[CLS]" in names if blacks else names[0] == "picture"


def test_what_is_read(folder: Path) -> None:
    model = encoder(folder)
    inputs = model.reader.queries([Query("q", "a red cat", instruction="find a photo:")])
    words = model.reader.tokenizer.convert_ids_to_tokens(inputs["query_tokens"][0])
    assert words == [
        "[CLS]", "[unused0]", "find", "a", "photo", ":", "a", "red", "cat", "[SEP]", "[MASK]", "[MASK]"
    ]  # fmt: skip
    assert inputs["scored"][0].tolist() == [True] * 2 + [False] * 4 + [True] * 6
    assert inputs["attended"][0].tolist() == [1] * 10 + [0] * 2
    again = model.reader.queries([Query("q", "a red cat", instruction="find a photo")])
    assert torch.equal(again["query_tokens"], inputs["query_tokens"])


def test_fingerprints(folder: Path) -> None:
    prints = [
        encoder(folder, **settings).fingerprint
        for settings in (
            {},
            {"separate": True},
            {"document_tokens": 9},
            {"document_marker": "cat"},
            {"mapping_layers": 0},
        )
    ]
    assert len(set(prints)) == 5
    assert encoder(folder, query_tokens=9).fingerprint == prints[0]


def test_what_cannot_be_encoded(folder: Path, tmp_path: Path) -> None:
    model = encoder(folder, regions=1, mask_padding=False)
    for query in (Query("q", "\u200b"), Query("q", " ", instruction=":")):
        with pytest.raises(ModelError, match="the query 'q' has no token that is scored; give it"):
            model.encode_queries([QUERIES[0], query])
    with pytest.raises(ModelError, match="the query 'q' has neither a question nor a picture; give it one"):
        model.encode_queries([Query("q")])
    with pytest.raises(VisionError, match="the picture 'four' is not in"):
        model.encode_queries([Query("q", image="four")])
    pictures = save_pictures(tmp_path / "images", ["one", "new"])
    model.reader._pictures = pictures
    with pytest.raises(VisionError, match="the picture 'new' has no region features in"):
        model.encode_queries([Query("q", image="new")])
    model.reader._regions = save_regions(tmp_path / "regions", pictures, {"one": [[90, 2, 99, 9]]})
    with pytest.raises(
        VisionError, match=r"the region \(90, 2, 99, 9\) of the picture 'one' lies outside of its 24x32"
    ):
        model.encode_queries([Query("q", image="one")])
    model.reader._regions = None
    with pytest.raises(
        ModelError, match=r"no store of regions is known; set regions .at question time, a detector., or"
    ):
        model.encode_queries([Query("q", image="one")])
    texts = PreFLMREncoder.from_config(
        PreFLMREncoder.Config(text=str(folder / "bert"), **SIZES), SimpleNamespace(pictures=pictures)
    )
    assert texts.encode_queries([Query("q", "a cat")]).values.shape == (12, 8)
    with pytest.raises(ModelError, match="has no vision tower and was given a picture; set vision"):
        texts.encode_queries([Query("q", image="one")])


def test_settings_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"knows no marker '\[Q\]'; set query_marker and document_marker"):
        encoder(folder, query_marker="[Q]")
    with pytest.raises(
        ModelError, match=r"document_tokens is 99 and the text folder .* has positions for 40; lower it"
    ):
        encoder(folder, document_tokens=99)
    with pytest.raises(ConfigError, match="learns 'some' is unknown; use text, mapping or all"):
        encoder(folder, learns="some")
    with pytest.raises(ConfigError, match="three are markers"):
        encoder(folder, query_tokens=3)
    with pytest.raises(ConfigError, match="there is none; set vision to a folder of CLIP, or black_picture"):
        PreFLMREncoder.Config(text="bert", black_picture=True)
    with pytest.raises(ModelError, match=r"the text folder .* holds a 'clip' model"):
        encoder(folder, text="clip")
    with pytest.raises(ModelError, match=r"the text folder .* is not there"):
        encoder(folder, text="none")


@pytest.mark.parametrize("case", ["preflmr", "flmr"])
def test_every_vector_is_described(folder: Path, case: str) -> None:
    model = encoder(folder, **CASES[case])
    found = model.encode_queries(QUERIES)
    for number, query in enumerate(QUERIES):
        described = model.describe_query(query)
        assert len(described) == found.offsets[number + 1] - found.offsets[number]
        patches = [vector for vector in described if vector.patch]
        assert len(patches) == (4 if query.image and case == "preflmr" else 0)
        regions = {vector.text for vector in described if vector.text.startswith("region")}
        assert len(regions) == len(BOXES.get(query.image, [])[: model.reader.reading.regions])
    words = [vector.text for vector in model.describe_query(QUERIES[0])]
    assert words == ["[CLS]", "[unused0]", "a", "red", "cat", "[SEP]"] + ["[MASK]"] * (
        6 if case == "preflmr" else 0
    )
    documents = model.encode_documents(DOCUMENTS)
    for number, document in enumerate(DOCUMENTS):
        ranges = model.describe_document(document)
        assert len(ranges) == documents.offsets[number + 1] - documents.offsets[number]
    both = DOCUMENTS[4]
    assert [both.contents[a:b] for a, b in model.describe_document(both)] == [
        "", "", "tree", "a", "boat", "of", "the", "dog", "", "", "", ""
    ]  # fmt: skip


def test_patches_lie_where_the_tower_sees_them(folder: Path) -> None:
    """A picture of 24 x 32 is scaled to 16 at its shorter edge, and 16 x 16 are cut from its middle."""
    model = encoder(folder)
    patches = [vector.box for vector in model.describe_query(Query("q", image="one")) if vector.patch]
    assert patches[0] == pytest.approx((0.0, 0.125, 0.5, 0.5))
    assert patches[3] == pytest.approx((0.5, 0.5, 1.0, 0.875))


def test_a_region_ends_with_its_picture(folder: Path, tmp_path: Path) -> None:
    model, pictures = encoder(folder, regions=1), PictureFolder(folder / "images")
    model.reader._regions = save_regions(tmp_path / "regions", pictures, {"one": [[-9, 8, 90, 24]]})
    found = model.describe_query(Query("q", image="one"))
    assert {vector.box for vector in found if vector.text == "region 1"} == {(0.0, 0.25, 1.0, 0.75)}
