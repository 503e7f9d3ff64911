"""The end of a completion: the model's end tokens, and stop strings."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Stops:
    """The end conditions of completions.

    Example:
        Stops(ids=frozenset({2}), strings=("Question:",))
    """

    ids: frozenset[int]
    """A completion ends with the first of these tokens, which is part of the completion but not of its text."""
    strings: tuple[str, ...]
    """A completion ends with the token that completes one of these strings; its text ends before the string."""

    def adding(self, strings: Sequence[str], tokenizer: Any) -> Stops:
        """Add the strings of a request. A string that is an added token becomes an end token, as texts contain none."""
        added = tokenizer.get_added_vocab()
        ids = {added[string] for string in strings if string in added}
        return Stops(self.ids | ids, tuple(string for string in strings if string not in added))

    def are_in(self, text: str) -> bool:
        """Whether a text contains one of the strings."""
        return any(string in text for string in self.strings)

    def cut(self, text: str) -> str:
        """Return a text up to the first of the strings."""
        return text[: min((text.find(string) for string in self.strings if string in text), default=len(text))]

    def length(self, ids: Sequence[int], tokenizer: Any) -> int | None:
        """Return the number of tokens up to the end of a completion; None if it has not ended."""
        ended = [place + 1 for place, token in enumerate(ids) if token in self.ids][:1]
        if self.strings and self.are_in(tokenizer.decode(ids, skip_special_tokens=True)):
            lengths = range(1, len(ids) + 1)
            ended.append(
                1
                + bisect_left(
                    lengths, True, key=lambda n: self.are_in(tokenizer.decode(ids[:n], skip_special_tokens=True))
                )
            )
        return min(ended, default=None)


def model_stops(model: Path, tokenizer: Any) -> Stops:
    """Return a model's end tokens: the tokenizer's, and those of generation_config.json, or else of config.json.

    Args:
        model: Folder of the model.
        tokenizer: Its tokenizer.
    """
    files = [model / "generation_config.json", model / "config.json"]
    settings: dict[str, Any] = next(
        (json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()), {}
    )
    ends = settings.get("eos_token_id")
    ids = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None}
    return Stops(frozenset(ids), ())
