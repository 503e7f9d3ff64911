"""The text of each token of a completion, from the tokenizer that the run folder or its base model has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rft.config.recorded_yaml import read_yaml
from rft.models.base_model import EMBEDDED_MODELS
from rft.run_folder.recorder import CONFIG

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
LONGEST = 8
"""Most tokens that share a character: none has more bytes."""
UNREADABLE = "\ufffd"
"""What a tokenizer writes for a part of a character."""


def find_tokenizer(folder: Path) -> Path | None:
    """Return the tokenizer file of a run: in its results, in a checkpoint, or of its base model; None for none."""
    places = [folder / "adapter", folder / "model", folder / "merged", *sorted(folder.glob("checkpoints/checkpoint-*"))]
    config = folder / CONFIG
    if config.is_file():
        values = read_yaml(config, what="run")
        model = values.get("model") if isinstance(values, dict) else None
        path = model.get("path") if isinstance(model, dict) else None
        if isinstance(path, str):
            places.append(EMBEDDED_MODELS.get(path) or Path(path).expanduser())
    return next((place / FILE for place in places if (place / FILE).is_file()), None)


class TokenPieces:
    """Splits completions into the texts of their tokens.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pieces: dict[int, str] = {}

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        from tokenizers import Tokenizer

        path = find_tokenizer(self._folder)
        try:
            return None if path is None else Tokenizer.from_file(str(path))
        except Exception:  # the library raises no class of its own
            return None

    def of(self, ids: Sequence[int]) -> list[str] | None:
        """Return the text of each token; None without a tokenizer.

        A token that ends within a character has an empty text; the last token of the character has it.
        """
        if self._tokenizer is None:
            return None
        pieces: list[str] = []
        waiting: list[int] = []
        for token in ids:
            waiting.append(token)
            text = self._piece(token) if len(waiting) == 1 else self._text(waiting)
            if UNREADABLE in text and len(waiting) < LONGEST:
                pieces.append("")
                continue
            pieces.append(text)
            waiting = []
        if waiting:
            pieces[-1] = self._text(waiting)
        return pieces

    def _piece(self, token: int) -> str:
        if token not in self._pieces:
            self._pieces[token] = self._text([token])
        return self._pieces[token]

    def _text(self, ids: Sequence[int]) -> str:
        """Return the text of tokens behind other text: a tokenizer may leave out the space before the first word."""
        assert self._tokenizer is not None
        anchor = self._anchor
        before = self._tokenizer.decode(anchor, skip_special_tokens=False)
        text: str = self._tokenizer.decode([*anchor, *ids], skip_special_tokens=False)
        return text.removeprefix(before)

    @cached_property
    def _anchor(self) -> list[int]:
        assert self._tokenizer is not None
        ids: list[int] = self._tokenizer.encode("a", add_special_tokens=False).ids
        return ids
