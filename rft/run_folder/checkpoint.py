"""Finds the checkpoint to resume from, and writes the resulting adapter or model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rft.errors import OutputError
from rft.learning.spec import COMPLETE
from rft.run_folder.recorder import writing
from rft.types import Adapter, FullWeights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".index.json")
"""Suffixes of weight files and their indexes."""


def last_checkpoint(run_folder: Path) -> tuple[Path, int]:
    """Return the newest complete checkpoint of a run, and its step.

    Raises:
        OutputError: The folder contains no run, or the run has no complete checkpoint.
    """
    if not (run_folder / "config.yaml").exists():
        raise OutputError("resume", [f"resume={run_folder}: the folder contains no run (no config.yaml)"])
    whole = [
        (json.loads((folder / COMPLETE).read_text())["step"], folder)
        for folder in (run_folder / "checkpoints").glob("checkpoint-*")
        if (folder / COMPLETE).exists()
    ]
    if not whole:
        raise OutputError("resume", [f"resume={run_folder}: the run has no complete checkpoint; start a new run"])
    step, folder = max(whole)
    return folder, step


def save_adapter(folder: Path, adapter: Adapter, tokenizer: PreTrainedTokenizerBase, model_card: str) -> None:
    """Write an adapter in PEFT format, completely or not at all. An existing adapter is replaced.

    Args:
        folder: Target folder.
        adapter: The adapter.
        tokenizer: The tokenizer of training, with its chat template; saved beside the adapter.
        model_card: The adapter's README.md.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    with whole_folder(folder) as unfinished:
        (unfinished / "adapter_config.json").write_text(json.dumps(adapter.config, indent=2) + "\n")
        (unfinished / "adapter_model.safetensors").write_bytes(adapter.tensors)
        save_tokenizer(unfinished, tokenizer)
        (unfinished / "README.md").write_text(model_card, encoding="utf-8")


def save_model(
    folder: Path, weights: FullWeights, base_model: Path, tokenizer: PreTrainedTokenizerBase, model_card: str
) -> None:
    """Write a fully fine-tuned model in Hugging Face format, completely or not at all.

    Args:
        folder: Target folder; an existing model is replaced.
        weights: Every tensor of the model.
        base_model: Folder of the base model, whose configuration the model keeps.
        tokenizer: The tokenizer of training, with its chat template.
        model_card: The model's README.md.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    with whole_folder(folder) as unfinished:
        for file in base_model.iterdir():
            if file.is_file() and not file.name.endswith(WEIGHTS) and file.name != "README.md":
                shutil.copy(file, unfinished)
        (unfinished / "model.safetensors").write_bytes(weights.tensors)
        save_tokenizer(unfinished, tokenizer)
        (unfinished / "README.md").write_text(model_card, encoding="utf-8")


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Write a tokenizer and its chat template, so that `AutoTokenizer.from_pretrained(folder)` needs nothing else."""
    # Transformers would write these local loading options into tokenizer_config.json.
    for name in ("is_local", "local_files_only", "trust_remote_code"):
        tokenizer.init_kwargs.pop(name, None)
    tokenizer.save_pretrained(str(folder))


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` at the end; on an error nothing changes.

    Raises:
        OutputError: The disk is full or cannot be written.
    """
    unfinished = folder.with_name(folder.name + ".tmp")
    with writing(folder):
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        try:
            yield unfinished
            shutil.rmtree(folder, ignore_errors=True)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
