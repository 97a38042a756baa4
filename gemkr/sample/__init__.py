"""The embedded sample: facts, rendered scenes with flags, questions, and the scripts of its base models.

`materialize(folder, seed)` in `materialize.py` writes the data in seconds; `python -m gemkr.sample.make_models`
trains the base models in `models_folder()` again.
"""

from pathlib import Path


def models_folder() -> Path:
    """Where the base models lie: flags.pt (YOLO), flag-vit.json and .safetensors (CLIP), llm/ (LLaMA, tokenizer)."""
    return Path(__file__).resolve().parent / "models"
