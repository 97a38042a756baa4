"""What a VLM that writes is shown, and every folder, picture and setting that does not fit, in one sentence each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_pictures import save_pictures
from tiny_vlm import save_tiny_vlm

from gemkr.config.files import from_mapping
from gemkr.errors import ConfigError, GemkrError, ModelError, VisionError
from gemkr.evaluation.config import EvalConfig
from gemkr.fm_index import FMIndex
from gemkr.models.gemkr.config import ModelConfig
from gemkr.models.hf.config import LoraConfig, PromptConfig
from gemkr.models.hf.vlm_folder import load_parts
from gemkr.models.hf.vlm_llm import load_vlm
from gemkr.models.vlm.config import VlmConfig
from gemkr.models.vlm.inputs import VlmInputs
from gemkr.models.writers.config import writer_files
from gemkr.text.tokenizer import load_tokenizer
from gemkr.training.config import TrainConfig
from gemkr.types import Query
from gemkr.vision.pictures import PictureFolder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("vlm")
    for family in ("qwen2_vl", "llava"):
        save_tiny_vlm(home / family, family)
    save_pictures(home / "images", ["one", "two"])
    Image.new("RGB", (512, 512)).save(home / "images" / "large.png")
    Image.new("RGB", (4, 1000)).save(home / "images" / "narrow.png")
    return home


def inputs(home: Path, family: str = "qwen2_vl", *, regions: Any = None, **settings: Any) -> VlmInputs:
    limits = {name: settings.pop(name, None) for name in ("max_prompt_tokens", "hide_regions")}
    config = VlmConfig(folder=str(home / family), **settings)
    parts = load_parts(config.folder)
    parts.limit_pixels(config.min_pixels, config.max_pixels)
    given = {name: value for name, value in limits.items() if value is not None}
    return VlmInputs(
        config,
        parts,
        load_tokenizer(config.folder),
        images=PictureFolder(home / "images"),
        regions=regions,
        **given,
    )


def words(build: VlmInputs, query: Query) -> list[str]:
    return build.parts.tokenizer.convert_ids_to_tokens(build(query).sample.tokens.tolist())


def test_the_prompt_is_the_models_own_chat(home: Path) -> None:
    build = inputs(home, prompt=PromptConfig(caption=True))
    query = Query("q", "which <|im_end|> one <|image_pad|>", "one", caption="a red cat")
    shown = words(build, query)
    assert shown[:3] == ["<|im_start|>", "system", "You"]
    assert shown[-2:] == ["<|im_start|>", "assistant"]
    assert shown.count("<|image_pad|>") == len(build(query).sample.visual) == 12
    assert shown[shown.index("<|vision_end|>") + 1 :][:2] == ["which", "one"]
    assert "red" in shown
    assert shown.count("<|im_end|>") == 2
    plain = words(inputs(home, chat=False), Query("q", "which one", "one"))
    assert plain[0] == "<|vision_start|>"
    assert plain[13:16] == ["<|vision_end|>", "which", "one"]


def test_picture_tokens_do_not_count_as_words_of_a_prompt(home: Path) -> None:
    query = Query("q", "which one of the red cat is a small dog", "one")
    whole = inputs(home)(query).sample
    text = len(whole.tokens) - len(whole.visual)
    assert inputs(home, max_prompt_tokens=text)(query).sample.tokens.tolist() == whole.tokens.tolist()
    cut = inputs(home, max_prompt_tokens=text - 2)(query).sample
    assert len(cut.tokens) == len(whole.tokens) - 2
    assert len(cut.visual) == len(whole.visual)
    with pytest.raises(ModelError, match="tokens without any text of the query, allowed are 3"):
        inputs(home, max_prompt_tokens=3)(query)


@pytest.mark.parametrize(
    "lines", ["<ImageHere>\n{question}\n{passage}", "{passage}\n<ImageHere>\n{question}"]
)
@pytest.mark.parametrize("chat", [True, False])
def test_pictures_of_a_passage_stand_where_they_are_named(
    home: Path, tmp_path: Path, lines: str, chat: bool
) -> None:
    (tmp_path / "own.txt").write_text(lines)
    build = inputs(home, chat=chat, prompt=PromptConfig(template=str(tmp_path / "own.txt")))
    query = Query("q", "which \ufffc one", "one")
    found = build(query, passage="a \ufffc cat", passage_images=["two"])
    alone = [build.parts.show(build.images.open(name), name)[0]["pixel_values"] for name in ("one", "two")]
    last = lines.startswith("<ImageHere>")
    for shown, expected in zip(found.pictures, alone if last else alone[::-1], strict=True):
        assert torch.equal(shown["pixel_values"], expected)
    read = build.parts.tokenizer.convert_ids_to_tokens(found.sample.tokens.tolist())
    text = " ".join(word for word in read if word != "<|image_pad|>")
    seen = "<|vision_start|> <|vision_end|>"
    assert (f"{seen} which one a {seen} cat" if last else f"a {seen} cat {seen} which one") in text
    assert found.text_length == len([word for word in read if word != "<|image_pad|>"])
    plain = build(query, passage="a \ufffc cat")
    assert len(plain.pictures) == 1
    without = build(Query("q", "which one"), passage="a \ufffc cat", passage_images=["two"])
    assert torch.equal(without.pictures[0]["pixel_values"], alone[1])
    build.max_prompt_tokens = plain.text_length - 2
    with pytest.raises(
        ModelError, match=r"tokens has no room for the picture of a passage; raise max_prompt"
    ):
        build(query, passage="\ufffc cat", passage_images=["two"])


class Regions:
    """Three boxes of each picture, the right one first."""

    path, width, encoder = "boxes", 0, ""

    def get(self, image_id: str) -> Any:
        boxes = np.array([[12, 0, 24, 32], [0, 0, 8, 8], [0, 16, 12, 32]], np.float32)
        return SimpleNamespace(boxes=boxes, count=3, size=(24, 32))


def test_crops_are_further_pictures(home: Path) -> None:
    query = Query("q", "which one", "one")
    one, three = inputs(home, "llava"), inputs(home, "llava", crops=2, regions=Regions())
    assert len(one(query).pictures) == 1
    assert len(three(query).pictures) == 3
    assert len(three(query).sample.visual) == 3 * len(one(query).sample.visual)
    picture = PictureFolder(home / "images").open("one")
    first = three.parts.show(picture.crop((0, 0, 8, 9)), "it")[0]["pixel_values"]
    assert not np.array_equal(
        three(query).pictures[1]["pixel_values"], three(query).pictures[2]["pixel_values"]
    )
    assert three(query).pictures[1]["pixel_values"].shape == first.shape
    assert len(inputs(home, "llava", crops=2, regions=Regions(), hide_regions=1.0)(query).pictures) == 1
    with pytest.raises(ModelError, match=r"model.crops is 2 and no store of regions is known to cut them by"):
        inputs(home, "llava", crops=2)


@pytest.mark.parametrize(
    ("image", "settings", "message"),
    [
        (
            "large",
            {"max_pixels": 1 << 20},
            r"the picture 'large' of the query 'q' is too large: its 4096 tokens with \d+ of text are more than the 480 that the "
            r"model reads beside a clue; give a smaller one, or train with a lower model.max_pixels or model.crops$",
        ),
        (
            "narrow",
            {},
            r"the picture 'narrow' of the query 'q', 4x1000 pixels, is not one that the model's image processor takes \(.*ratio.*\); "
            r"give another picture$",
        ),
    ],
)
def test_pictures_that_the_model_cannot_take(
    home: Path, image: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(VisionError, match=message):  # which a service answers with 422
        inputs(home, **settings)(Query("q", "which one", image))


def copied(home: Path, target: Path) -> Path:
    return shutil.copytree(home / "qwen2_vl", target / "qwen2_vl").parent


def test_a_chat_template_without_a_place_for_pictures(home: Path, tmp_path: Path) -> None:
    folder = copied(home, tmp_path) / "qwen2_vl"
    save_pictures(tmp_path / "images", [])
    template = folder / "chat_template.jinja"
    template.write_text("{% for message in messages %}{{ message['content'][-1]['text'] }}{% endfor %}")
    with pytest.raises(
        ModelError, match=r"writes the picture token <\|image_pad\|> 0 times for 1 pictures; give a"
    ):
        inputs(tmp_path)
    template.write_text("{{ messages[0]['content'] | nothing }}")
    with pytest.raises(ModelError, match=r"the chat template of the VLM folder .* cannot be filled in"):
        inputs(tmp_path)
    template.unlink()
    with pytest.raises(
        ModelError, match=r"has no chat template \(chat_template.jinja\); copy it there, or set model.chat"
    ):
        inputs(tmp_path)
    assert inputs(tmp_path, chat=False)


@pytest.mark.parametrize(
    ("gone", "part"),
    [
        ("preprocessor_config.json", "image processor"),
        ("config.json", "configuration"),
        ("tokenizer.json", "tokenizer"),
    ],
)
def test_a_folder_that_lacks_a_part(home: Path, tmp_path: Path, gone: str, part: str) -> None:
    folder = copied(home, tmp_path) / "qwen2_vl"
    (folder / gone).unlink()
    with pytest.raises(ModelError, match=rf"the VLM folder {folder} lacks its {part} \({gone}\)") as error:
        load_parts(str(folder))
    assert "http" not in str(error.value)


def test_a_folder_whose_tokenizer_lacks_the_picture_token(home: Path, tmp_path: Path) -> None:
    folder = copied(home, tmp_path) / "qwen2_vl"
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | {"image_token_id": 4000}))
    with pytest.raises(ModelError, match=r"lacks the picture token of config.json, 4000; copy or download"):
        load_parts(str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(
        ModelError, match="models of the type 'llama' cannot read pictures here; known are qwen2_vl"
    ):
        load_parts(str(folder))
    with pytest.raises(ModelError, match=r"the VLM folder .*absent is not there"):
        load_parts(str(tmp_path / "absent"))


def test_targets_that_are_no_part_of_the_language_model(home: Path) -> None:
    for targets, message in (
        (r".*vision_tower.*\.q_proj", "only parts of a vision tower, such as 'model.vision_tower"),
        ("nothing", r"lora.targets 'nothing' matches no linear module"),
        ("(", r"lora.targets '\(' is no regular expression"),
    ):
        with pytest.raises(ModelError, match=message):
            load_vlm(str(home / "llava"), lora=LoraConfig(targets=targets), precision="fp32")
    with pytest.raises(ModelError, match="the precision 'fp8' is unknown"):
        load_vlm(str(home / "llava"), lora=None, precision="fp8")


def evaluation(home: Path, model: dict[str, Any]) -> EvalConfig:
    section = {"kind": "generative", "index": str(home / "other.fmi"), "model": model}
    values = {
        "queries": "q",
        "corpus": str(home / "corpus.csv"),
        "output": "out",
        "retrievers": {"vlm": section},
    }
    return from_mapping(values, EvalConfig, "eval.yaml")


def test_an_index_of_another_tokenizer(home: Path) -> None:
    (home / "corpus.csv").write_text("kid,text\nd0,the red cat\n")
    save_tiny_vlm(home / "other", "llava", ["quite", "other", "words"])
    other = load_tokenizer(home / "other")
    index = FMIndex.build([other.encode("the red cat")], ["d0"], vocab_size=other.vocab_size, tokenizer=other)
    index.save(home / "other.fmi")
    config = evaluation(home, {"kind": "vlm", "folder": str(home / "qwen2_vl")})
    with pytest.raises(
        GemkrError, match=r"other.fmi was built with a vocabulary of .* not with the tokenizer .*qwen2_vl"
    ):
        config.sources().retriever("vlm")


def test_the_kind_of_a_model_is_read_from_its_section(home: Path) -> None:
    model = (
        evaluation(home, {"kind": "vlm", "folder": "f", "prompt": {"template": "short"}})
        .retrievers["vlm"]
        .config.model
    )
    assert isinstance(model, VlmConfig)
    assert writer_files(model).keys() == {"folder", "checkpoint", "prompt.template"}
    for kind in ({}, {"kind": "gemkr"}):
        assert evaluation(home, {**kind, "llm": "f"}).retrievers["vlm"].config.model == ModelConfig(llm="f")
    training = {"output": "out", "data": {"queries": "q", "clues": "c"}}
    read = from_mapping(
        {**training, "model": {"kind": "vlm", "folder": "f"}}, TrainConfig, "train.yaml", Path("/there")
    )
    assert read.model.folder == "/there/f"
    with pytest.raises(ConfigError, match="the kind 'seq2seq' of model is unknown; known are gemkr, vlm"):
        evaluation(home, {"kind": "seq2seq"})
    with pytest.raises(ConfigError, match="unknown key 'tower'"):
        evaluation(home, {"kind": "vlm", "folder": "f", "tower": {}})
    with pytest.raises(ConfigError, match="model must be a mapping, it is 7"):
        from_mapping({**training, "model": 7}, TrainConfig, "train.yaml")
