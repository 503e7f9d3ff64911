"""Control tokens that the contents of a prompt spell stay plain text.

A tokenizer turns `<|end|>` into the control token wherever it stands, also in the middle of what a user says, so that a
task could end its own turn and begin another. Here a text is tokenized with the control tokens of the template as they
are, and those within given spans as the plain characters that they are made of.

It is done by a second tokenizer that differs from the first in one thing: its control tokens have other names, which
occur in no text. The names are put where the template wrote a control token, and nowhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

OPEN, CLOSE = "\uf8f0", "\uf8f1"
"""Mark where a content begins and ends, and make up the other names; private-use characters, which no text has."""

Span = tuple[int, int]
"""Characters from the first up to but without the second."""

# Turn markers have this form also where a tokenizer does not declare them as special, as in DeepSeek-R1's distilled
# models, whose bars are full-width. Other undeclared tokens, such as <think>, are text that a prompt may want to quote.
_MARKER = re.compile("<[|\uff5c].+[|\uff5c]>")
_MIN_PART = 2
"""A content whose end and the template's next characters could form a control token shows this much of it."""


class AddedTokens(Protocol):
    """What is needed of a tokenizer of transformers."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, Any]:
        """Its added tokens by id."""


class CannotSeparate(ValueError):
    """A text cannot be tokenized with control tokens as plain text; says why."""


class ControlTokens:
    """The control tokens of a tokenizer.

    Args:
        tokenizer: One of transformers; those that stand on the library tokenizers can be told to leave them alone.
    """

    def __init__(self, tokenizer: AddedTokens) -> None:
        self._tokenizer: Any = tokenizer
        self.names = sorted({token.content for token in tokenizer.added_tokens_decoder.values() if _is_control(token)})
        self._pattern = re.compile("|".join(map(re.escape, sorted(self.names, key=len, reverse=True))) or "(?!)")
        self._firsts = {name[0] for name in self.names}
        self._lasts = {name[-1] for name in self.names}
        self._longest = max(map(len, self.names), default=0)

    def spelled_in(self, text: str) -> bool:
        """Whether a text spells a control token, or ends or begins like a part of one. Takes a microsecond if not."""
        if any(first in text for first in self._firsts):
            if self._pattern.search(text) is not None:
                return True
            if any(text[-size:] in self._heads for size in range(_MIN_PART, self._longest)):
                return True
        head = text[: self._longest]
        if any(last in head for last in self._lasts):
            return any(text[:size] in self._tails for size in range(_MIN_PART, self._longest))
        return False

    @cached_property
    def _heads(self) -> frozenset[str]:
        return frozenset(name[:size] for name in self.names for size in range(_MIN_PART, len(name)))

    @cached_property
    def _tails(self) -> frozenset[str]:
        return frozenset(name[-size:] for name in self.names for size in range(_MIN_PART, len(name)))

    def encode(self, text: str, plain: Sequence[Span]) -> list[int]:
        """Tokenize a text, without the tokens that a tokenizer puts around it.

        Args:
            text: The whole prompt.
            plain: Where control tokens are plain text, in their order.

        Raises:
            CannotSeparate: The tokenizer does not allow it, or a control token is half in such a span and half outside.
        """
        expected = self._twin.encode(self._renamed(text, ()))
        if expected != self._tokenizer.encode(text, add_special_tokens=False):
            raise CannotSeparate("its tokenizer cannot be made to leave them alone")
        found = self._twin.encode(self._renamed(text, plain))
        inside = sum(1 for match in self._pattern.finditer(text) if _place(match.span(), plain) == "inside")
        controls = self._twin.control_ids
        if sum(map(controls.__contains__, found)) != sum(map(controls.__contains__, expected)) - inside:
            raise CannotSeparate("its tokenizer has no other tokens for these characters")
        return found

    @cached_property
    def _twin(self) -> _Twin:
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise CannotSeparate("its tokenizer is not one of the library tokenizers")
        return _Twin(backend.to_str(), self.names)

    def _renamed(self, text: str, plain: Sequence[Span]) -> str:
        """The text with the control tokens outside of the spans under their other names."""
        parts, done = [], 0
        for match in self._pattern.finditer(text):
            place = _place(match.span(), plain)
            if place == "across":
                raise CannotSeparate(f"{match[0]} is formed by a content together with what stands beside it")
            if place == "outside":
                parts += [text[done : match.start()], _other_name(self.names.index(match[0]))]
                done = match.end()
        return "".join([*parts, text[done:]])


class _Twin:
    """The tokenizer whose control tokens have other names, and the ids that the first tokenizer has for its tokens."""

    def __init__(self, serialized: str, names: Sequence[str]) -> None:
        from tokenizers import Tokenizer

        original, spec = Tokenizer.from_str(serialized), json.loads(serialized)
        spec["post_processor"] = None
        own_names = {}
        for token in spec["added_tokens"]:
            own_names[token["content"]] = token["content"]
            if token["content"] in names:
                token["content"], token["normalized"] = _other_name(names.index(token["content"])), False
                own_names[token["content"]] = names[_number(token["content"])]
        self._tokenizer = Tokenizer.from_str(json.dumps(spec))
        self._ids: dict[Any, Any] = {
            self._tokenizer.token_to_id(token["content"]): original.token_to_id(own_names[token["content"]])
            for token in spec["added_tokens"]
        }
        self.control_ids: set[int | None] = {original.token_to_id(name) for name in names}

    def encode(self, text: str) -> list[int]:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        return [self._ids.get(each, each) for each in ids]


def marked(value: Any, control: ControlTokens) -> Any:
    """A copy of plain values in which each text that spells a control token stands between `OPEN` and `CLOSE`.

    White space around a text stays outside, for templates take it away.
    """
    if isinstance(value, str):
        core = value.strip()
        return value.replace(core, f"{OPEN}{core}{CLOSE}") if core and control.spelled_in(core) else value
    if isinstance(value, Mapping):
        return {marked(name, control): marked(each, control) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [marked(each, control) for each in value]
    return value


def unmarked(text: str) -> tuple[str, list[Span]]:
    """A text without its marks, and what stood between them."""
    plain, spans, start = [], [], 0
    length = 0
    for part in re.split(f"([{OPEN}{CLOSE}])", text):
        if part == OPEN:
            start = length
        elif part == CLOSE:
            spans.append((start, length))
        else:
            plain.append(part)
            length += len(part)
    return "".join(plain), spans


def texts(value: Any) -> Iterator[str]:
    """Every text in plain values, names of fields included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from texts(name)
            yield from texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts(each)


def _is_control(token: Any) -> bool:
    return bool(token.special or _MARKER.fullmatch(token.content))


def _other_name(number: int) -> str:
    return f"{CLOSE}{number}{OPEN}"


def _number(other_name: str) -> int:
    return int(other_name[1:-1])


def _place(span: Span, plain: Sequence[Span]) -> str:
    """`inside` one of the spans, `across` the edge of one, or `outside` of all."""
    for start, end in plain:
        if start <= span[0] and span[1] <= end:
            return "inside"
        if start < span[1] and span[0] < end:
            return "across"
    return "outside"
