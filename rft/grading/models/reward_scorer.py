"""A reward model of Transformers: a sequence classifier that rates a prompt with its completion. Imports torch late."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rft.grading.models.batches import Message, Reward, Row

FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")
"""Files of a model's folder that determine its rewards."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
DEFAULT_MAX_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerSettings:
    """The settings of a reward model.

    Example:
        ScorerSettings(model="Skywork/Skywork-Reward-V2-Qwen3-0.6B")
    """

    model: str
    """Folder, or id on the hub."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    input: Literal["chat", "pair"] | None = None
    """Format of the input; None selects `chat` if the model has a chat template."""
    label: int | None = None
    """Index of the label whose logit is the reward; None for a model with one label."""
    max_tokens: int | None = None
    """Limit of the input; None uses the model's, at most `DEFAULT_MAX_TOKENS`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the weights; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    num_threads: int = 1
    """CPU threads."""

    def folder(self) -> Path:
        """Return the model's folder, after a download if the model is on the hub.

        Raises:
            OSError: The model cannot be found or downloaded.
        """
        here = Path(self.model).expanduser()
        if here.is_dir():
            return here
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(self.model, revision=self.revision, allow_patterns=list(FILES)))

    def fingerprint(self) -> str:
        """Hash the model's files, to 16 hexadecimal digits."""
        folder, total = self.folder(), hashlib.sha256()
        for path in sorted({file for pattern in FILES for file in folder.glob(pattern)}):
            with path.open("rb") as file:
                total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return total.hexdigest()[:16]

    def memory(self, batch_size: int, *, on_gpu: bool) -> dict[str, int]:
        """Estimate the bytes of the weights, and of one batch of inputs of full length."""
        folder = self.folder()
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        stored = BYTES.get(str(config.get("dtype") or config.get("torch_dtype")), 4)
        size = BYTES[self.dtype if self.dtype != "auto" else "bfloat16" if on_gpu else "float32"]
        weights = sum(file.stat().st_size for file in folder.glob("*.safetensors")) * size // stored
        hidden = int(config.get("hidden_size", 0))
        # A layer holds its input, queries, keys, values and attention output, and the two halves of the gated MLP.
        per_token = size * (6 * hidden + 3 * int(config.get("intermediate_size", 4 * hidden)))
        return {"weights": weights, "activations": batch_size * self.limit(config) * per_token}

    def limit(self, config: dict[str, Any]) -> int:
        """Return the limit of the input in tokens.

        Args:
            config: The content of the model's `config.json`.

        Raises:
            ValueError: `max_tokens` exceeds the model's limit.
        """
        context = int(config.get("max_position_embeddings") or DEFAULT_MAX_TOKENS)
        if self.max_tokens is not None and self.max_tokens > context:
            raise ValueError(f"max_tokens={self.max_tokens}: the model {self.model} takes at most {context}")
        return self.max_tokens or min(context, DEFAULT_MAX_TOKENS)


class RewardScorer:
    """A loaded reward model.

    Args:
        settings: Its settings.
        gpus: GPUs of this process, or its share of one; 0 uses the CPU. None uses a GPU if this machine has one.

    Raises:
        OSError: The model cannot be found, downloaded or read.
        ValueError: The model is no reward model, or the settings do not fit it.
    """

    def __init__(self, settings: ScorerSettings, gpus: float | None = None) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        torch.set_num_threads(settings.num_threads)
        on_gpu = torch.cuda.is_available() if gpus is None else gpus > 0
        if gpus is not None and 0 < gpus < 1:
            torch.cuda.set_per_process_memory_fraction(gpus)
        dtype = settings.dtype if settings.dtype != "auto" else "bfloat16" if on_gpu else "float32"
        folder = settings.folder()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True
        )
        if report["missing_keys"]:
            raise ValueError(
                f"{settings.model} is no reward model: its files lack {', '.join(sorted(report['missing_keys']))}, "
                "which Transformers would fill with random numbers"
            )
        self._label = _label(settings, model.config.num_labels)
        self._limit = settings.limit(model.config.to_dict())
        self._is_chat = (settings.input or ("chat" if self._tokenizer.chat_template else "pair")) == "chat"
        if self._is_chat and not self._tokenizer.chat_template:
            raise ValueError(f"input=chat: the tokenizer of {settings.model} has no chat template; use input=pair")
        self._tokenizer.truncation_side = "left"
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if model.config.pad_token_id is None:
            model.config.pad_token_id = self._tokenizer.pad_token_id
        self._device = torch.device("cuda" if on_gpu else "cpu")
        self._model: Any = model.eval().to(self._device)
        special = {token.content for token in self._tokenizer.added_tokens_decoder.values() if token.special}
        self._special = sorted(filter(None, special | set(self._tokenizer.all_special_tokens)), key=len, reverse=True)

    def score(self, rows: Sequence[Row]) -> list[Reward]:
        """Return the rewards of a batch, in order."""
        import torch

        if not rows:
            return []
        encoded = [self._encode(row) for row in rows]
        padded = self._tokenizer.pad([inputs for inputs, _ in encoded], return_tensors="pt").to(self._device)
        with torch.inference_mode():
            logits = self._model(**padded).logits[:, self._label].float().tolist()
        return [Reward(value, length, self._limit) for value, (_, length) in zip(logits, encoded, strict=True)]

    def _encode(self, row: Row) -> tuple[dict[str, Any], int]:
        """Return the tokens of a row, truncated on the left if it is too long, and its length before truncation."""
        messages = [self._harmless(message) for message in row.messages]
        answer = self._break_up(row.answer)
        options: dict[str, Any]
        if self._is_chat:
            chat = [*messages, {"role": "assistant", "content": answer}]
            texts = [self._tokenizer.apply_chat_template(chat, tokenize=False)]
            options = {"add_special_tokens": False, "truncation": True}
        else:
            texts = ["\n\n".join(str(message["content"]) for message in messages), answer]
            options = {"truncation": "longest_first"}
        inputs = self._tokenizer(*texts, **options, max_length=self._limit)
        num_tokens = len(inputs["input_ids"])
        if num_tokens == self._limit:
            num_tokens = len(self._tokenizer(*texts, **(options | {"truncation": False}), verbose=False)["input_ids"])
        return dict(inputs), num_tokens

    def _harmless(self, message: Message) -> Message:
        content = message.get("content")
        return {**message, "content": self._break_up(content)} if isinstance(content, str) else message

    def _break_up(self, text: str) -> str:
        """Break up control tokens: an answer could otherwise end its turn and praise itself in the next one."""
        for token in self._special:
            if len(token) > 1:
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


def _label(settings: ScorerSettings, num_labels: int) -> int:
    if settings.label is None and num_labels != 1:
        raise ValueError(
            f"the model {settings.model} has {num_labels} labels; set label to the index of the label to reward"
        )
    if settings.label is not None and not 0 <= settings.label < num_labels:
        raise ValueError(f"label={settings.label}: the model {settings.model} has the labels 0 to {num_labels - 1}")
    return settings.label or 0
