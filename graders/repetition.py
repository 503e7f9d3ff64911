"""Repetition: a penalty for completions that repeat themselves.

graders:
  fresh:
    use: repetition
    ngram: 4
    free_share: 0.2
    weight: 0.5
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

_PIECE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]{1,20}|[^\w\s]")
"""A word, a Han or Kana character, or a sign; 20 characters of a very long word."""


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """Scores 0 up to `free_share` of repeated n-grams, then falls linearly to -1 if all are repeated.

    A repeated n-gram has occurred earlier in the completion. Thinking counts as well.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    ngram: int = 4
    """Number of consecutive words that are compared."""
    free_share: float = 0.2
    """Share of repeated n-grams without a penalty; prose has some."""

    def __post_init__(self) -> None:
        problems = []
        if self.ngram < 1:
            problems.append(f"ngram={self.ngram} must be at least 1")
        if not 0 <= self.free_share < 1:
            problems.append(f"free_share={self.free_share} must be at least 0 and less than 1")
        if problems:
            raise ValueError("; ".join(problems))

    def grade(self, completion: str) -> float:
        """Count the n-grams."""
        pieces = _PIECE.findall(completion.casefold())
        ngrams = list(zip(*(pieces[start:] for start in range(self.ngram)), strict=False))
        if not ngrams:
            return 0.0
        share = 1 - len(set(ngrams)) / len(ngrams)
        return -max(0.0, share - self.free_share) / (1 - self.free_share)
