"""verifiers' parsers, which rubric functions take as `parser`.

In verifiers the parser belongs to the environment, so a function alone does not determine it. The grader's entry names
it: `parser: boxed`. The names follow verifiers' classes and the behaviour of their `extract_fn`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

PARSERS = ("plain", "boxed", "think", "think_boxed", "maybe_think", "maybe_think_boxed", "xml:<field>")
"""Names of the parsers. The field of the last parser contains the answer, as in `xml:guess`."""


class Parser:
    """The answer is the text of the assistant's last message, after `extract_fn`.

    Args:
        extract_fn: Extracts the answer from the text.
    """

    def __init__(self, extract_fn: Callable[[str], Any] = str) -> None:
        self.extract_fn = extract_fn

    def parse(self, text: str) -> Any:
        """Return the answer in a text."""
        return self.extract_fn(text)

    def get_assistant_messages(self, completion: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the assistant's messages."""
        return _of_role(completion, "assistant")

    def get_user_messages(self, completion: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the user's messages; a completion of one turn has none."""
        return _of_role(completion, "user")

    def get_system_messages(self, completion: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the system's messages; a completion of one turn has none."""
        return _of_role(completion, "system")

    def get_tool_messages(self, completion: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Return the tools' messages; a completion of one turn has none."""
        return _of_role(completion, "tool")

    def parse_answer(self, completion: str | Sequence[Mapping[str, Any]]) -> Any:
        """Return the answer in the assistant's last message; None without such a message."""
        if isinstance(completion, str):
            return self.parse(completion)
        messages = self.get_assistant_messages(completion)
        return self.parse(str(messages[-1]["content"])) if messages else None


class ThinkParser(Parser):
    """The answer is the text after the last `</think>`.

    Args:
        extract_fn: Extracts the answer from this text.
        is_needed: Whether a text without `</think>` has an empty answer; otherwise the whole text is the answer.
    """

    def __init__(self, extract_fn: Callable[[str], Any] = str, *, is_needed: bool) -> None:
        super().__init__(extract_fn)
        self._is_needed = is_needed

    def parse(self, text: str) -> Any:
        """Return the answer in a text."""
        if self._is_needed and "</think>" not in text:
            return self.extract_fn("")
        return self.extract_fn(text.rpartition("</think>")[2].strip())


class XMLParser(Parser):
    """The answer is the content of the last element with a name.

    Args:
        field: The name.
    """

    def __init__(self, field: str) -> None:
        super().__init__()
        self.answer_field = field
        self._element = re.compile(rf"<{re.escape(field)}>\s*(.*?)\s*</{re.escape(field)}>", re.DOTALL)

    def parse(self, text: str) -> Any:
        """Return an object with the field; the field is None if the text has no such element."""
        fields = self._element.findall(text)
        return SimpleNamespace(**{self.answer_field: fields[-1] if fields else None})

    def parse_answer(self, completion: str | Sequence[Mapping[str, Any]]) -> Any:
        """Return the field's content in the assistant's last message that has the field; None if no message has it."""
        if isinstance(completion, str):
            return getattr(self.parse(completion), self.answer_field)
        for message in reversed(self.get_assistant_messages(completion)):
            if (field := getattr(self.parse(str(message["content"])), self.answer_field)) is not None:
                return field
        return None


def named_parser(name: object) -> Parser:
    """Make a parser.

    Raises:
        ValueError: The name is not one of `PARSERS`.
    """
    kind, _, field = str(name).partition(":")
    makers: dict[str, Callable[[], Parser]] = {
        "plain": Parser,
        "boxed": lambda: Parser(last_boxed),
        "think": lambda: ThinkParser(is_needed=True),
        "think_boxed": lambda: ThinkParser(last_boxed, is_needed=True),
        "maybe_think": lambda: ThinkParser(is_needed=False),
        "maybe_think_boxed": lambda: ThinkParser(last_boxed, is_needed=False),
        "xml": lambda: XMLParser(field),
    }
    if kind not in makers or (kind == "xml") != bool(field):
        raise ValueError(f"there is no parser {name!r}; the parsers are {', '.join(PARSERS)}")
    return makers[kind]()


def last_boxed(text: str) -> str:
    r"""Return the content of the last `\boxed{}`; the whole text without one (verifiers' rule)."""
    start = text.rfind("\\boxed{")
    depth = 0
    for place in range(start + len("\\boxed"), len(text) if start >= 0 else 0):
        depth += (text[place] == "{") - (text[place] == "}")
        if not depth:
            return text[start + len("\\boxed{") : place]
    return text


def _of_role(messages: Sequence[Mapping[str, Any]], role: str) -> list[Mapping[str, Any]]:
    return [message for message in messages if message["role"] == role]
