"""UniIR's encoders agree with numpy twins, item by item, for texts, pictures and both, as queries and as documents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import twins
from one_step import take_a_step
from tiny_pictures import (
    SIZE,
    queries_and_documents,
    save_pictures,
    save_tiny_blip,
    save_tiny_clip,
    sources_of,
)
from torch import Tensor, nn
from transformers import BlipForImageTextRetrieval

from gemkr.errors import ModelError, VisionError
from gemkr.models.embedder import Embedder
from gemkr.models.hf.adapters import AdapterConfig
from gemkr.models.uniir.blip_ff import BlipFeatureFusionEncoder
from gemkr.models.uniir.blip_sf import BlipScoreFusionEncoder
from gemkr.models.uniir.clip_ff import ClipFeatureFusionEncoder
from gemkr.models.uniir.clip_sf import ClipScoreFusionEncoder
from gemkr.models.uniir.reader import tidy
from gemkr.models.weights import weights_digest
from gemkr.types import Document, Query

NO_PICTURE = np.zeros((3, SIZE, SIZE))
FUSION = {"heads": 2, "head_width": 8, "feed_forward": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uniir")
    save_tiny_clip(folder / "clip")
    save_tiny_blip(folder / "blip")
    save_pictures(folder / "images", ["one", "two", "three"])
    return folder


def encoder(folder: Path, kind: str, *, pictures: bool = True, **settings: object) -> Embedder:
    cls = {
        "clip_sf": ClipScoreFusionEncoder,
        "clip_ff": ClipFeatureFusionEncoder,
        "blip_sf": BlipScoreFusionEncoder,
        "blip_ff": BlipFeatureFusionEncoder,
    }[kind]
    settings = (FUSION if kind == "clip_ff" else {}) | settings
    config = cls.Config(folder=str(folder / kind.split("_")[0]), **settings)
    return cls.from_config(config, sources_of(save_pictures(folder / "images", []) if pictures else None))


def clip_sf(w: twins.Weights, tokens: list[int] | None, pixels: np.ndarray | None) -> np.ndarray:
    total = np.zeros(24)
    if tokens is not None:
        total = total + twins.linear(w, "text_projection", twins.clip_text(w, tokens, 2)[-1])
    if pixels is not None:
        total = total + twins.linear(w, "visual_projection", twins.clip_vision(w, pixels, 2)[0])
    return twins.unit(total)


CASES = ["clip_sf", "clip_ff", "clip_ff unpadded", "blip_sf", "blip_ff", "blip_ff unpadded"]


def settings_of(case: str) -> tuple[str, dict]:
    kind, _, unpadded = case.partition(" ")
    return kind, ({"attend_padding": not unpadded} if kind.endswith("ff") else {})


def twin(case: str, model: Embedder, inputs: dict, row: int) -> np.ndarray:
    """The vector of one item of a batch, from its own tokens and pixels."""
    kind, settings = settings_of(case)
    attend = settings.get("attend_padding")
    w = twins.numbers(model.network.state_dict())
    real = int(inputs["token_mask"][row].sum())
    every = inputs["tokens"][row].tolist()
    has_text, has_image = bool(inputs["has_text"][row]), bool(inputs["has_image"][row])
    pixels = None
    if has_image:
        pixels = inputs["pixels"][int(inputs["has_image"][:row].sum())].double().numpy()
    if kind == "clip_sf":
        return clip_sf(w, every[:real] if has_text else None, pixels)
    if kind == "clip_ff":
        text = twins.clip_text(w, every, 2)
        shown = NO_PICTURE if pixels is None else pixels
        image = twins.linear(w, "visual_projection", twins.clip_vision(w, shown, 2))
        states = np.vstack([text, image])
        seen = np.ones(len(states), bool)
        if not attend:
            seen[:] = [
                *(has_text and i < real for i in range(len(text))),
                *[has_image] * len(image),
            ]
        return twins.unit(twins.t5(w, "fusion.stack", states, 2, seen)[seen].mean(0))
    eps = model.network.vision_model.config.layer_norm_eps
    if kind == "blip_sf":
        total = np.zeros(28)
        if has_text:
            total = total + twins.linear(w, "text_projection", twins.blip_text(w, every[:real], 2)[0])
        if has_image:
            total = total + twins.linear(w, "visual_projection", twins.blip_vision(w, pixels, 2, eps)[0])
        return twins.unit(total)
    if pixels is None and attend:
        pixels = NO_PICTURE
    picture = None if pixels is None else twins.blip_vision(w, pixels, 2, eps)
    first = twins.blip_text(w, every[:real], 2, picture)[0]
    return twins.unit(np.tanh(twins.linear(w, "pooler", first)))


@pytest.mark.parametrize("case", CASES)
def test_vectors_agree_with_the_twin(folder: Path, case: str) -> None:
    kind, settings = settings_of(case)
    model = encoder(folder, kind, **settings)
    queries, documents = queries_and_documents()
    for found, inputs in (
        (model.encode_queries(queries), model.reader.queries(queries)),
        (model.encode_documents(documents), model.reader.documents(documents)),
    ):
        assert (found.dtype, found.shape) == (np.float32, (4, model.width))
        expected = np.stack([twin(case, model, inputs, row) for row in range(4)])
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(np.diff(expected, axis=0)).max(axis=1).min() > 0.01
    if case != "clip_ff unpadded":
        singly = np.concatenate([model.encode_queries([query]) for query in queries])
        np.testing.assert_allclose(singly, model.encode_queries(queries), atol=1e-5)


@pytest.mark.parametrize("kind", ["blip_sf", "blip_ff"])
def test_blip_reads_pictures_of_another_size(folder: Path, kind: str) -> None:
    """As the library does when it interpolates positions at each forward pass; at the folder's own size nothing changes."""
    model, plain = encoder(folder, kind, image_size=32), encoder(folder, kind)
    queries, _ = queries_and_documents()
    inputs = model.reader.queries(queries)
    assert inputs["pixels"].shape == (3, 3, 32, 32)
    tower = BlipForImageTextRetrieval.from_pretrained(folder / "blip").vision_model.eval()
    with torch.inference_mode():
        expected = tower(inputs["pixels"], interpolate_pos_encoding=True).last_hidden_state
        found = model.network.vision_model(inputs["pixels"]).last_hidden_state
    assert found.shape == (3, 17, 20)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    vectors = model.encode_queries(queries)
    assert np.abs(vectors - plain.encode_queries(queries))[1:].max(axis=1).min() > 0.01
    assert encoder(folder, kind, image_size=SIZE).fingerprint == plain.fingerprint != model.fingerprint
    with pytest.raises(
        ModelError, match=r"encoder\.image_size 20 is no multiple of the tower's patches of 8"
    ):
        encoder(folder, kind, image_size=20)


def test_projections_into_another_space_are_new_and_learn(folder: Path) -> None:
    """Beside adapters too, and the same ones every time; into the folder's own space they are its own."""
    queries, _ = queries_and_documents()
    new, again = (
        encoder(folder, "blip_sf", space=40, adapters=AdapterConfig(r=2, targets=".*query")) for _ in range(2)
    )
    assert new.width == 40
    np.testing.assert_array_equal(new.encode_queries(queries), again.encode_queries(queries))
    learned = {name for name, p in new.network.named_parameters() if p.requires_grad}
    assert {name.split(".")[0] for name in learned} == {
        "text_encoder",
        "text_projection",
        "visual_projection",
    }
    assert not any("crossattention" in name for name in learned)
    assert encoder(folder, "blip_sf", space=28).fingerprint == encoder(folder, "blip_sf").fingerprint


def test_what_is_read(folder: Path) -> None:
    model = encoder(folder, "clip_sf")
    inputs = model.reader.queries([Query("q", "a red cat", instruction=' "find a photo"')])
    words = model.reader.tokenizer.convert_ids_to_tokens(inputs["tokens"][0])
    assert words == ["[CLS]", "find", "a", "photo", "[UNK]", "a", "red", "cat", "[UNK]", "[SEP]"]
    texts = {"a cat": "A cat.", ' "who?" ': "Who?", "": "", "Stop!\r": "Stop!", "x": "X."}
    assert {text: tidy(text) for text in texts} == texts
    long = model.reader.documents([Document("d", "red " * 50)])["tokens"]
    assert (long.shape[1], long[0, -1]) == (20, 3)
    assert encoder(folder, "clip_ff").reader.documents([Document("d", "red")])["tokens"].shape[1] == 20


def test_the_fingerprint_tells_what_decides_a_vector(folder: Path) -> None:
    prints = [encoder(folder, *settings_of(case)[:1], **settings_of(case)[1]).fingerprint for case in CASES]
    prints.append(encoder(folder, "clip_sf", max_tokens=5).fingerprint)
    assert len(set(prints)) == 7
    assert encoder(folder, "clip_ff").fingerprint == prints[1]


def test_what_cannot_be_encoded(folder: Path) -> None:
    model = encoder(folder, "clip_sf")
    with pytest.raises(ModelError, match="the query 'q' has neither a text nor a picture"):
        model.encode_queries([Query("q")])
    with pytest.raises(
        VisionError,
        match=r"the document 'd': the picture 'four' is not in .*, or take out the query or document",
    ):
        model.encode_documents([Document("d", image="four")])
    with pytest.raises(ModelError, match="the document 'd' has the picture 'one' and no folder of pictures"):
        encoder(folder, "blip_sf", pictures=False).encode_documents([Document("d", image="one")])
    with pytest.raises(
        ModelError, match=r"the CLIP folder .* is not there; give a local Hugging Face folder"
    ):
        encoder(folder / "absent", "clip_sf")
    narrow = folder / "narrow"
    save_tiny_clip(narrow / "clip", space=16)
    save_pictures(narrow / "images", [])
    with pytest.raises(ModelError, match="joins text states of 24 numbers and pictures of 16"):
        encoder(narrow, "clip_ff")


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", ["clip_sf", "clip_ff", "blip_sf", "blip_ff"])
def test_adapters_never_touch_a_vision_tower(folder: Path, kind: str, dora: bool) -> None:
    """Whatever the regex says: its parameters are the same ones, by name and hash, none of them learns, and a step of training
    leaves them as they are."""
    plain = encoder(folder, kind).network
    everything = AdapterConfig(r=2, targets=".*", dora=dora)
    made = encoder(folder, kind, adapters=everything)
    adapted = made.network

    def seeing(network: nn.Module) -> dict[str, Tensor]:
        prefixes = ("vision_model.", "visual_projection.")
        return {name: tensor for name, tensor in network.state_dict().items() if name.startswith(prefixes)}

    before = seeing(plain)
    assert len(before) > 10
    assert before.keys() == seeing(adapted).keys()
    assert weights_digest(before) == weights_digest(seeing(adapted))
    learned = [name for name, p in adapted.named_parameters() if p.requires_grad]
    changed = take_a_step(adapted, made.reader.queries(queries_and_documents()[0]))
    assert changed <= {*learned}
    assert any("lora_magnitude_vector" in name for name in changed) == dora
    assert any("lora_B" in name for name in changed)
    assert weights_digest(before) == weights_digest(seeing(adapted))
    assert not [name for name in learned if "vis" in name.split(".")[0]]
    assert any("lora" in name for name in learned)
    assert ("fusion" in {n.split(".")[0] for n in learned}) == (kind == "clip_ff")
    assert ("pooler.weight" in learned) == (kind == "blip_ff")


def test_adapters_that_match_nothing_to_adapt(folder: Path) -> None:
    for targets, message in (
        ("vision_model.*", "matches only parts of a vision tower, such as 'vision_model"),
        ("nothing", "matches no linear module; the network has"),
        ("(", "is no regular expression"),
    ):
        with pytest.raises(ModelError, match=message):
            encoder(folder, "clip_sf", adapters=AdapterConfig(targets=targets))
