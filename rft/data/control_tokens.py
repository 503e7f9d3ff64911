"""Keeps control tokens in the content of a prompt as plain text.

A tokenizer turns `<|end|>` into the control token anywhere, even in the middle of a user's message. A task could
therefore end its own turn and begin another one. This module tokenizes the template's control tokens as such, and
control tokens within given spans as plain characters.

It uses a second tokenizer that differs from the first in one point: its control tokens have other names, which occur in
no text. Only control tokens that the template wrote are replaced by these names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from rft.data.messages import texts

OPEN, CLOSE = "\uf8f0", "\uf8f1"
"""Private-use characters that mark spelled control tokens and form the other names; they occur in no text."""

Span = tuple[int, int]
"""Start and end of a range of characters; the end is exclusive."""

# Turn markers have this form even if a tokenizer does not declare them as special. DeepSeek-R1's distilled models use
# full-width bars. Other undeclared tokens, such as <think>, are text that a prompt may quote.
_MARKER = re.compile("<[|\uff5c].+[|\uff5c]>")
_MIN_PART = 2
"""Shortest part, in characters, of a control token that spans two texts."""
_SPACE = 8
"""Characters of white space to ignore around a text."""


class CannotSeparate(ValueError):
    """A text cannot be tokenized with control tokens as plain text. The message gives the reason."""


class ControlTokens:
    """The control tokens of a tokenizer.

    Args:
        tokenizer: A tokenizer of transformers; those based on the library tokenizers can keep them as text.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Mistral's own tokenizers have no such list; they never read control tokens from text.
        added = getattr(tokenizer, "added_tokens_decoder", {})
        self.names = sorted({token.content for token in added.values() if _is_control(token)})
        self._pattern = re.compile("|".join(map(re.escape, sorted(self.names, key=len, reverse=True))) or "(?!)")
        self._firsts = {name[0] for name in self.names}
        self._lasts = {name[-1] for name in self.names}
        self._edges = tuple(self._firsts | self._lasts)
        self._longest = max(map(len, self.names), default=0)

    def spelled_in(self, text: str) -> bool:
        """Whether a text spells a control token, or starts or ends with a part of one."""
        # This runs for every text, and few texts contain one of these characters.
        for edge in self._edges:
            if edge in text:
                break
        else:
            return False
        return bool(self._pattern.search(text) or self._part_at_end(text) or self._part_at_beginning(text))

    def spelled_in_any(self, value: Any) -> bool:
        """Whether any text in plain values spells one, including names of fields."""
        return any(map(self.spelled_in, texts(value)))

    def marked(self, value: Any) -> Any:
        """Return a copy of plain values with spelled control tokens, or parts, between `OPEN` and `CLOSE`."""
        if isinstance(value, str):
            text = self._pattern.sub(lambda match: f"{OPEN}{match[0]}{CLOSE}", value)
            if part := self._part_at_end(text):
                text = f"{OPEN}{part}{CLOSE}".join(text.rsplit(part, 1))
            if part := self._part_at_beginning(text):
                text = text.replace(part, f"{OPEN}{part}{CLOSE}", 1)
            return text
        if isinstance(value, Mapping):
            return {self.marked(name): self.marked(each) for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.marked(each) for each in value]
        return value

    def _part_at_end(self, text: str) -> str:
        """Return the end of a text if it may start a control token, else an empty string. Ignores trailing space."""
        end = text[-self._longest - _SPACE :].rstrip()
        if not any(first in end for first in self._firsts):
            return ""
        return next((end[-size:] for size in range(self._longest - 1, 1, -1) if end[-size:] in self._heads), "")

    def _part_at_beginning(self, text: str) -> str:
        """Return the start of a text if it may end a control token, else an empty string."""
        head = text[: self._longest + _SPACE].lstrip()
        if not any(last in head for last in self._lasts):
            return ""
        return next((head[:size] for size in range(self._longest - 1, 1, -1) if head[:size] in self._tails), "")

    @cached_property
    def _heads(self) -> frozenset[str]:
        return frozenset(name[:size] for name in self.names for size in range(_MIN_PART, len(name)))

    @cached_property
    def _tails(self) -> frozenset[str]:
        return frozenset(name[-size:] for name in self.names for size in range(_MIN_PART, len(name)))

    def encode(self, text: str, plain: Sequence[Span]) -> list[int]:
        """Tokenize a text, without the tokens that the tokenizer adds around it.

        Args:
            text: The whole prompt.
            plain: Spans in which control tokens are plain text, in order.

        Raises:
            CannotSeparate: The tokenizer does not allow it, or a control token crosses the edge of a span.
        """
        expected = self._twin.encode(self._renamed(text, ()))
        if expected != self._tokenizer.encode(text, add_special_tokens=False):
            raise CannotSeparate("its tokenizer cannot keep them as text")
        ids = self._twin.encode(self._renamed(text, plain))
        inside = sum(1 for match in self._pattern.finditer(text) if _place(match.span(), plain) == "inside")
        controls = self._twin.control_ids
        if sum(map(controls.__contains__, ids)) != sum(map(controls.__contains__, expected)) - inside:
            raise CannotSeparate("its tokenizer has no other tokens for these characters")
        return ids

    @cached_property
    def _twin(self) -> _Twin:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise CannotSeparate("its tokenizer is not one of the library tokenizers")
        return _Twin(backend.to_str(), self.names)

    def _renamed(self, text: str, plain: Sequence[Span]) -> str:
        """Return the text with control tokens outside the spans under their other names."""
        parts, done = [], 0
        for match in self._pattern.finditer(text):
            place = _place(match.span(), plain)
            if place == "across":
                raise CannotSeparate(f"{match[0]} spans a content and the text beside it")
            if place == "outside":
                parts += [text[done : match.start()], _other_name(self.names.index(match[0]))]
                done = match.end()
        return "".join([*parts, text[done:]])


class _Twin:
    """The tokenizer with renamed control tokens, and a mapping of its ids to those of the original."""

    def __init__(self, serialized: str, names: Sequence[str]) -> None:
        from tokenizers import Tokenizer

        original, spec = Tokenizer.from_str(serialized), json.loads(serialized)
        spec["post_processor"] = None
        own_names = {}
        for token in spec["added_tokens"]:
            name = token["content"]
            if name in names:
                token |= {"content": _other_name(names.index(name)), "normalized": False}
            own_names[token["content"]] = name
        self._tokenizer = Tokenizer.from_str(json.dumps(spec))
        self._ids: dict[Any, Any] = {
            self._tokenizer.token_to_id(other): original.token_to_id(name) for other, name in own_names.items()
        }
        self.control_ids: set[int | None] = {original.token_to_id(name) for name in names}

    def encode(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._ids.get(each, each) for each in ids]


def unmarked(text: str) -> tuple[str, list[Span]]:
    """Return a text without its marks, and the marked spans.

    Raises:
        CannotSeparate: The marks are no longer in pairs.
    """
    parts = re.split(f"({OPEN}[^{OPEN}{CLOSE}]*{CLOSE})", text)
    spans, length = [], 0
    for number, part in enumerate(parts):
        if number % 2:
            parts[number] = part[1:-1]
            spans.append((length, length + len(part) - 2))
        length += len(parts[number])
    plain = "".join(parts)
    if OPEN in plain or CLOSE in plain:
        raise CannotSeparate("the chat template cuts it in two")
    return plain, spans


def _is_control(token: Any) -> bool:
    return bool(token.special or _MARKER.fullmatch(token.content))


def _other_name(number: int) -> str:
    return f"{CLOSE}{number}{OPEN}"


def _place(span: Span, plain: Sequence[Span]) -> str:
    """Return `inside` (within a span), `across` (over an edge of one), or `outside`."""
    for start, end in plain:
        if start <= span[0] and span[1] <= end:
            return "inside"
        if start < span[1] and span[0] < end:
            return "across"
    return "outside"
