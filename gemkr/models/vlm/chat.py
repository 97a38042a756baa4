"""What a vision-language model is told: the words around its pictures, as its own template of a chat has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gemkr.errors import ModelError, first_line
from gemkr.models.gemkr.fields import PICTURE
from gemkr.models.hf.vlm_folder import VlmParts


class Frame:
    """Puts a user's text and pictures into one prompt, up to where the model's answer begins."""

    def __init__(self, parts: VlmParts, *, chat: bool) -> None:
        """ModelError for a folder without a chat template, and for one that shows no picture."""
        self._parts, self._template = parts, None
        if not chat:
            return
        self._template = parts.chat_template()
        if self._template is None:
            raise ModelError(
                f"the VLM folder {parts.folder} has no chat template (chat_template.jinja); copy it there, or set model.chat: false"
            )
        self(("", "?"), [parts.image_token])

    def __call__(
        self, texts: tuple[str, str | None], pictures: Sequence[str], inside: Sequence[str] = ()
    ) -> str:
        """The prompt of texts before and behind pictures, and around those `inside` them where `PICTURE` stands; each picture
        written as the tokens that stand for it."""
        mark = self._parts.image_token
        before = texts[0].count(PICTURE) if pictures else 0
        pictures = [*inside[:before], *pictures, *inside[before:]]
        framed = self._parts.family.frame.replace("{picture}", mark)
        texts = (texts[0].replace(PICTURE, framed), texts[1] and texts[1].replace(PICTURE, framed))
        if self._template is None:
            shown = framed * (len(pictures) - len(inside))
            prompt = " ".join(text for text in (texts[0], f"{shown}{texts[1] or ''}") if text)
        else:
            prompt = self._chat(texts, len(pictures) - len(inside))
        between = prompt.split(mark)
        if len(between) != len(pictures) + 1:
            raise ModelError(
                f"the chat template of the VLM folder {self._parts.folder} writes the picture token {mark} {len(between) - 1} times "
                f"for {len(pictures)} pictures; give a template with a place for each, or set model.chat: false"
            )
        return between[0] + "".join(picture + after for picture, after in zip(pictures, between[1:]))

    def _chat(self, texts: tuple[str, str | None], pictures: int) -> str:
        content: list[dict[str, Any]] = [{"type": "image"}] * pictures
        before, behind = ([{"type": "text", "text": text}] if text else [] for text in texts)
        try:
            return self._parts.tokenizer.apply_chat_template(
                [{"role": "user", "content": [*before, *content, *behind]}],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=True,
            )
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("jinja2", "builtins"):
                raise
            raise ModelError(
                f"the chat template of the VLM folder {self._parts.folder} cannot be filled in ({first_line(error)}); give another, "
                "or set model.chat: false"
            ) from error

    def encode(self, prompt: str) -> list[int]:
        """Token ids, with what the model's tokenizer puts first, once."""
        tokenizer = self._parts.tokenizer
        begun = tokenizer.bos_token is not None and prompt.startswith(tokenizer.bos_token)
        return tokenizer(prompt, add_special_tokens=not begun)["input_ids"]
