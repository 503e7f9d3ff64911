"""Restores the weights of a GGUF file as a model folder in the format of Transformers. Imports torch."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging as transformers_logging

from rft.errors import ModelError
from rft.reliability.durable import writing

DTYPE = torch.bfloat16
"""Number format of the restored weights. Its rounding loses far less than the quantization has lost."""


def write_restored(gguf: Path, folder: Path) -> str:
    """Write weights, configuration, tokenizer and chat template of a GGUF file.

    Args:
        gguf: The file.
        folder: Target folder; exists and is empty.

    Returns:
        The format of most values in the file, such as `Q4_1`.

    Raises:
        ModelError: gguf or Transformers cannot read the file.
        WriteError: The folder cannot be written.
    """
    transformers_logging.disable_progress_bar()
    try:
        num_values = Counter[str]()
        for tensor in GGUFReader(gguf).tensors:
            num_values[tensor.tensor_type.name] += int(tensor.n_elements)
        with redirect_stderr(io.StringIO()):  # one progress bar cannot be switched off
            model = _load_model(gguf)
        tokenizer = _load_tokenizer(gguf, model.config.max_position_embeddings)
    except Exception as error:  # both libraries raise their own errors for each format and architecture
        lines = str(error).strip().splitlines() or [type(error).__name__]
        problem = f"{gguf} cannot be restored: {lines[0]}; use the model from which it was made"
        raise ModelError("base model", [problem]) from error
    with writing(folder):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return num_values.most_common(1)[0][0]


def _load_model(gguf: Path) -> Any:
    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=DTYPE,
        local_files_only=True,
        trust_remote_code=False,
    )
    # Transformers refuses to save a model that it has loaded from GGUF, and still calls it quantized.
    values = loaded.config.to_dict()
    values.pop("quantization_config", None)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values), trust_remote_code=False)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    return model


def _load_tokenizer(gguf: Path, context_tokens: int) -> Any:
    where = {"gguf_file": gguf.name, "local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where, model_max_length=context_tokens)
    for name in ("is_local", *where):  # how it was loaded, which Transformers would write into tokenizer_config.json
        tokenizer.init_kwargs.pop(name, None)
    return tokenizer
