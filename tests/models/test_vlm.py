"""VLM embedders agree with the model run on each whole prompt alone, with positions counted by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from one_step import take_a_step
from PIL import Image
from tiny_pictures import queries_and_documents, save_pictures, sources_of
from tiny_vlm import VISION, save_tiny_vlm

from gemkr.errors import DataError, ModelError, VisionError
from gemkr.models.hf.adapters import AdapterConfig
from gemkr.models.hf.vlm import VlmEncoder
from gemkr.models.hf.vlm_folder import VlmParts
from gemkr.models.hf.vlm_reader import VlmReader
from gemkr.models.weights import weights_digest
from gemkr.types import Document, Query
from gemkr.vector_index.store import VectorWriter, open_vectors, vector_plan

FAMILIES = list(VISION)
LAMRA = {"template": "lamra", "pool": "before:<emb>"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vlm")
    for family in FAMILIES:
        save_tiny_vlm(folder / family, family)
    save_pictures(folder / "images", ["one", "two", "three"])
    return folder


def encoder(folder: Path, family: str, *, pictures: bool = True, **settings: object) -> VlmEncoder:
    config = VlmEncoder.Config(folder=str(folder / family), **settings)
    return VlmEncoder.from_config(
        config, sources_of(save_pictures(folder / "images", []) if pictures else None)
    )


def positions(tokens: list[int], grid: list[int] | None, image_id: int) -> torch.Tensor:
    """int64[3, 1, T]: time, row and column of each token, a picture's from the place it begins at."""
    found, following, inside, start = [], 0, 0, 0
    for token in tokens:
        if token != image_id:
            found.append((following,) * 3)
            following += 1
            continue
        rows, columns = grid[1] // 2, grid[2] // 2
        start = following if inside == 0 else start
        found.append((start, start + inside // columns, start + inside % columns))
        inside += 1
        if inside == rows * columns:
            following = start + max(rows, columns)
    return torch.tensor(found).T[:, None]


@torch.inference_mode()
def twin(model: VlmEncoder, text: str, pixels: dict | None, before: str | None) -> np.ndarray:
    """The whole prompt through the model, once; the state of its last token, or of that before the token `before`."""
    tokenizer, network = model.reader.tokenizer, model.network.model
    if before is not None:
        tokenizer.add_tokens([before], special_tokens=True)
    tokens = tokenizer(text)["input_ids"]
    at = len(tokens) - 1 if before is None else tokens.index(tokenizer.convert_tokens_to_ids(before)) - 1
    known = network.get_input_embeddings().num_embeddings
    tokens = [min(token, known - 1) for token in tokens]
    extra = {}
    if model.reader.family.typed:
        grid = None if pixels is None else pixels["image_grid_thw"][0].tolist()
        extra["position_ids"] = positions(tokens, grid, model.reader.image_id)
    states = network(input_ids=torch.tensor([tokens]), **(pixels or {}), **extra).last_hidden_state
    return torch.nn.functional.normalize(states[0, at], dim=-1).numpy()


def picture_tokens(model: VlmEncoder, family: str, pixels: dict, image: str) -> str:
    """Counted by hand where a family writes nothing but picture tokens; else as the library does (see below)."""
    if family == "llava":
        return "<|image_pad|>" * 16
    if family.startswith("qwen"):
        return "<|image_pad|>" * (int(pixels["image_grid_thw"].prod()) // 4)
    return model.reader.parts.show(model.reader.pictures.open(image), image)[1]


def prompt(settings: dict, text: str, pad: str) -> str:
    if settings:
        what = {(0, 1): "sentence", (1, 0): "image", (1, 1): "image and sentence"}[bool(pad), bool(text)]
        seen = f"<|vision_start|>{pad}<|vision_end|>" if pad else ""
        return (
            f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{seen}{text}\nSummarize above {what} in "
            "one word: <|im_end|>\n<|im_start|>assistant\n<emb>."
        )
    return (f"{pad}\n" if pad else "") + text


@pytest.mark.parametrize("settings", [{}, LAMRA], ids=["last", "before"])
@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_agree_with_the_twin(folder: Path, family: str, settings: dict) -> None:
    model = encoder(folder, family, **settings)
    queries, documents = queries_and_documents()
    found = [*model.encode_queries(queries), *model.encode_documents(documents)]
    texts = ["find a photo a red cat", "", "which one is small", "the small dog of the big green house"]
    texts += ["the blue bird", "", "tree. a boat", "a photo of the small red cat which is the big green tree"]
    vectors = []
    for item, text in zip([*queries, *documents], texts, strict=True):
        pixels, pad = None, ""
        if item.image is not None:
            pixels = dict(
                model.reader.processor(images=[model.reader.pictures.open(item.image)], return_tensors="pt")
            )
            pad = picture_tokens(model, family, pixels, item.image)
        vectors.append(twin(model, prompt(settings, text, pad), pixels, "<emb>" if settings else None))
    np.testing.assert_allclose(found, vectors, atol=1e-5)
    assert min(np.abs(a - b).max() for a, b in pairwise(vectors)) > 0.01


def library_processor(family: str, parts: VlmParts) -> Any:
    """The library's own processor of the same parts; it needs torchvision for its class of video processors."""
    from transformers import (
        Idefics3Processor,
        LlavaNextProcessor,
        LlavaOnevisionProcessor,
        LlavaProcessor,
        Qwen2VLProcessor,
        Qwen3VLProcessor,
    )
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    both = parts.processor, parts.tokenizer
    parts.tokenizer.image_token = parts.image_token
    if family == "qwen3_vl":
        return Qwen3VLProcessor(*both, Qwen3VLVideoProcessor(patch_size=4))
    if family.startswith("qwen"):
        return Qwen2VLProcessor(*both, Qwen2VLVideoProcessor(patch_size=4))
    if family == "llava_onevision":
        from transformers.models.llava_onevision.video_processing_llava_onevision import (
            LlavaOnevisionVideoProcessor,
        )

        settings = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
        shape = {"vision_aspect_ratio": parts.config.vision_aspect_ratio}
        return LlavaOnevisionProcessor(*both, LlavaOnevisionVideoProcessor(), **settings, **shape)
    if family.startswith("llava"):
        kind = LlavaProcessor if family == "llava" else LlavaNextProcessor
        return kind(
            *both, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1
        )
    return Idefics3Processor(*both, image_seq_len=4)


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "smolvlm"])
def test_picture_tokens_are_those_of_the_library(folder: Path, family: str) -> None:
    pytest.importorskip("torchvision")
    reader = encoder(folder, family).reader
    library = library_processor(family, reader.parts)
    if family == "idefics3":  # which writes its own name of the picture token
        library.image_token, library.image_token_id = reader.image_token, reader.image_id
    for name in ("one", "two", "three"):
        picture = reader.pictures.open(name)
        theirs = library(text=["<|image_pad|>\na red cat"], images=[picture], return_tensors="pt")
        ours = reader.queries([Query("q", "a red cat", image=name)])
        assert theirs["input_ids"].tolist() == ours["input_ids"].tolist()
        assert torch.equal(theirs["pixel_values"], ours["pixel_values"])


@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 2), (2, 2)])
def test_smolvlm_writes_pictures_as_the_library_does(folder: Path, rows: int, columns: int) -> None:
    from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

    parts = encoder(folder, "smolvlm").reader.parts
    found = {"rows": [[rows]], "cols": [[columns]]}
    ours = parts.family.expand(found, parts.processor, parts.config, parts.image_token)
    assert ours == get_image_prompt_string(
        rows, columns, 4, "<fake_token_around_image>", parts.image_token, "<global-img>"
    )


@pytest.mark.parametrize("size", [(16, 16), (40, 17), (24, 32), (90, 31)])
def test_onevision_counts_what_the_model_keeps(folder: Path, size: tuple[int, int]) -> None:
    """As many tokens as the library's model makes states of a picture, scaled down (more than two squares of 16 patches) and not."""
    made = encoder(folder, "llava_onevision")
    network, reader = made.network.model, made.reader
    picture = Image.new("RGB", size, "red")
    tensors, text = reader.parts.show(picture, "p")
    with torch.inference_mode():
        states = network.get_image_features(tensors["pixel_values"], tensors["image_sizes"]).pooler_output
    assert text.count(reader.image_token) == len(states[0])


def test_what_is_read(folder: Path) -> None:
    model = encoder(folder, "qwen2_vl", max_tokens=3)
    reader = model.reader
    words = reader.tokenizer.convert_ids_to_tokens(
        reader.queries([Query("q", "red <|image_pad|>cat dog bird house")])["input_ids"][0]
    )
    assert words == ["red", "cat", "dog"]
    small = encoder(folder, "qwen2_vl", max_pixels=64).reader.documents([Document("d", image="one")])
    assert int(small["image_grid_thw"].prod()) <= 4
    assert (small["mm_token_type_ids"] == (small["input_ids"] == reader.image_id)).all()
    prints = {
        encoder(folder, "qwen2_vl", **settings).fingerprint
        for settings in ({}, LAMRA, {"max_tokens": 5}, {"max_pixels": 64}, {"image": "{tokens}"})
    }
    assert len(prints) == 5


@pytest.mark.parametrize(
    ("tidy", "expected"),
    [
        (False, ["find a red cat\n", "IMAGE\nshow it:\n", "the dog\n", "IMAGE\na tree is big"]),
        (True, ["Find. a red cat.", "IMAGE\nShow it:.", "The dog.", "IMAGE\nA tree is big."]),
    ],
)
def test_what_ends_a_text_is_read(
    folder: Path, tidy: bool, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line break of MMEB's is the last token; M-BEIR's texts are read as UniIR and LamRA read them."""
    reader, prompts = encoder(folder, "qwen2_vl", tidy=tidy, image="IMAGE\n").reader, []
    tokenize = type(reader.tokenizer).__call__

    def noted(self: Any, text: str, **settings: Any) -> Any:
        prompts.extend([] if settings else [text])
        return tokenize(self, text, **settings)

    monkeypatch.setattr(type(reader.tokenizer), "__call__", noted)
    reader.queries(
        [Query("a", "a red cat\n", instruction="find"), Query("b", image="one", instruction="show it:\n")]
    )
    reader.documents([Document("c", "the dog\n"), Document("d", " a tree is big", image="one")])
    assert prompts == expected
    with pytest.raises(ModelError, match="the query 'e' has neither a text nor a picture"):
        reader.queries([Query("e", "\n")])
    prints = {encoder(folder, "qwen2_vl", tidy=known).fingerprint for known in (False, True)}
    assert len(prints) == 2


def test_what_a_document_that_is_a_picture_is_called(folder: Path) -> None:
    """Of documents alone, and of none with a text."""
    told, plain = (
        encoder(folder, "qwen2_vl", **LAMRA, **changes)
        for changes in ({"document_picture": "image and sentence"}, {})
    )

    def words(model: VlmEncoder, item: Query | Document) -> list[str]:
        read = model.reader.queries if isinstance(item, Query) else model.reader.documents
        tokens = model.reader.tokenizer.convert_ids_to_tokens(read([item])["input_ids"][0])
        return tokens[tokens.index("above") + 1 : tokens.index("word") - 2]

    assert words(told, Document("d", image="one")) == ["image", "and", "sentence"]
    assert words(plain, Document("d", image="one")) == words(told, Query("q", image="one")) == ["image"]
    assert words(told, Document("d", "a cat")) == ["sentence"]
    assert words(told, Document("d", "a cat", image="one")) == ["image", "and", "sentence"]
    assert told.fingerprint != plain.fingerprint
    for changes in ({"template": "vlm2vec"}, {"template": "{text}<emb>{kind}", "pool": "before:<emb>"}):
        with pytest.raises(
            ModelError, match=r"document_picture is 'photo' and the template says no \{kind\}"
        ):
            encoder(folder, "qwen2_vl", document_picture="photo", **changes)


@pytest.mark.parametrize("family", ["qwen2_vl", "llava_next"])
def test_pictures_squashed_to_a_square(folder: Path, family: str) -> None:
    """As VLM2Vec's first version resizes what it evaluates, before the model's own processor sees it."""
    squashed, plain = (encoder(folder, family, square=side) for side in (48, None))
    documents = [Document("d", "a red cat", image=name) for name in ("one", "two", "three")]
    assert len({plain.reader.pictures.open(document.image).size for document in documents}) == 3
    ours = squashed.reader.documents(documents)
    for number, document in enumerate(documents):
        picture = plain.reader.pictures.open(document.image).resize((48, 48), Image.Resampling.BICUBIC)
        theirs, tokens = plain.reader.parts.show(picture, "p")
        assert (ours["input_ids"][number] == plain.reader.image_id).sum() == tokens.count(
            plain.reader.image_token
        )
        alone = squashed.reader.documents([document])
        assert all(torch.equal(alone[name], theirs[name]) for name in theirs)
    found = [model.encode_documents(documents) for model in (squashed, plain)]
    assert np.abs(found[0] - found[1]).max() > 1e-3
    assert squashed.fingerprint != plain.fingerprint == encoder(folder, family).fingerprint


def test_vectors_of_texts_read_otherwise_are_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those made before what ends a text was read, by the same folder and settings; other readers' vectors stay good."""
    plan = vector_plan(encoder(folder, "qwen2_vl").fingerprint, "corpus", 1, 32)
    with monkeypatch.context() as earlier:
        earlier.setattr(VlmReader, "version", 1)
        old = encoder(folder, "qwen2_vl")
        writer = VectorWriter(tmp_path / "old", vector_plan(old.fingerprint, "corpus", 1, 32))
        writer.add(old.encode_documents([Document("d", "a red cat")]))
        writer.finish()
        earlier.delattr(VlmReader, "version")
        assert encoder(folder, "qwen2_vl").fingerprint == old.fingerprint
    message = "were made with another encoder, or with its texts read otherwise; make them again"
    with pytest.raises(DataError, match=message):
        open_vectors(tmp_path / "old", plan, "make them again")
    with pytest.raises(DataError, match="another encoder, or with its texts read otherwise; delete it"):
        VectorWriter(tmp_path / "old", plan)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"template": "no place"},
            r"the template 'no place' has no \{text\} in it; put it there, or name one of",
        ),
        ({"pool": "before:<emb>"}, "the template has no '<emb>' behind its {text}"),
        ({"template": "<emb>{text}", "pool": "before:<emb>"}, "has no '<emb>' behind its {text}"),
        ({"pool": "mean"}, "pool is 'mean'; use last or before:TOKEN"),
        ({"precision": "fp8"}, "the precision 'fp8' is unknown"),
    ],
)
def test_settings_that_do_not_fit(folder: Path, settings: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        encoder(folder, "qwen2_vl", **settings)


def test_models_and_items_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"the VLM folder .* is not there"):
        encoder(folder, "absent")
    with pytest.raises(
        ModelError, match="min_pixels and max_pixels are for models that take pictures of any size"
    ):
        encoder(folder, "llava", max_pixels=64)
    with pytest.raises(ModelError, match="the query 'q' has neither a text nor a picture"):
        encoder(folder, "llava").encode_queries([Query("q")])
    with pytest.raises(VisionError, match="the document 'd': the picture 'four' is not in"):
        encoder(folder, "llava").encode_documents([Document("d", image="four")])
    with pytest.raises(ModelError, match="the document 'd' has the picture 'one' and no folder of pictures"):
        encoder(folder, "llava", pictures=False).encode_documents([Document("d", image="one")])


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_never_touch_a_vision_tower(folder: Path, family: str, dora: bool) -> None:
    """Nor does training without adapters: nothing between picture and language model learns, or is of other bytes, after a step of
    training too."""
    made = encoder(folder, family, adapters=AdapterConfig(r=2, targets=".*", dora=dora))
    plain, adapted = encoder(folder, family).network, made.network
    seeing = ("model.visual.", "model.vision_", "model.multi_modal_projector.", "model.connector.")
    before, after = (
        {name: tensor for name, tensor in network.state_dict().items() if name.startswith(seeing)}
        for network in (plain, adapted)
    )
    assert len(before) > 10
    assert before.keys() == after.keys()
    digest = weights_digest(before)
    assert digest == weights_digest(after)
    inputs = made.reader.queries(queries_and_documents()[0])
    for network in (plain, adapted):
        learned = [name for name, p in network.named_parameters() if p.requires_grad]
        assert learned
        assert not [name for name in learned if name.startswith(seeing)]
        changed = take_a_step(network, inputs)
        assert changed
        assert changed <= {*learned}
        state = network.state_dict()
        assert digest == weights_digest({name: state[name] for name in before})
    assert all("lora" in name for name in learned)
    assert any("lora_magnitude_vector" in name for name in changed) == dora
