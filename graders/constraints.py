"""Constraints: the final answer meets rules that a program can check. The grader `ifeval` has the rules of IFEval.

graders:
  obeys:
    use: constraints
    constraints:                      # or a column of the task with such a list: `column: constraints`
      - {kind: words, at_least: 50, at_most: 100}
      - {kind: include, texts: [Paris], times: 2}
      - {kind: script, name: latin}

| kind | keys |
|---|---|
| words, sentences, paragraphs, bullets, list_items (bullets and numbered lines) | at_least, at_most |
| include | texts, times (1): each text at least so often, as whole words, case ignored |
| exclude | texts: none of the texts |
| case | is: upper or lower |
| starts_with, ends_with | text |
| no_commas, json | |
| script | name: latin, cyrillic, greek, arabic, hebrew, devanagari, han, hangul, japanese, thai: nine letters in ten |
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from graders import counting
from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.answers import json_answer

MAX_CHARS = 100_000
"""Longer answers meet no constraint."""

SCRIPTS: Mapping[str, tuple[str, ...]] = {
    **{name: (name.upper(),) for name in ("latin", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "thai")},
    "han": ("CJK",),
    "hangul": ("HANGUL",),
    "japanese": ("HIRAGANA", "KATAKANA", "CJK"),
}
"""First words of the Unicode names of each script's letters; at least one letter must have the first word."""

COUNTS: Mapping[str, Callable[[str], int]] = {
    "words": counting.words,
    "sentences": counting.sentences,
    "paragraphs": counting.paragraphs,
    "bullets": counting.bullets,
    "list_items": counting.list_items,
}
"""The counters, by kind."""


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Scores the share of the constraints that the final answer meets, 0 to 1.

    An answer without a letter or a digit scores 0, because it would meet all prohibitions. A task with an empty column
    is skipped. Constraints reward form, not content: choose the weight accordingly, or use them in the gate of a
    `composite`.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    constraints: tuple[dict[str, Any], ...] = ()
    """The constraints for all tasks; set either these or `column`."""
    column: str | None = None
    """The task's column with a list of constraints."""

    def __post_init__(self) -> None:
        if bool(self.constraints) == bool(self.column):
            raise ValueError("set either constraints or column")
        problems = constraint_problems(self.constraints)
        if problems:
            raise ValueError("; ".join(problems))

    def grade(self, completion: str, task: Task) -> Score | None:
        """Check the constraints in order."""
        given = self.constraints if self.column is None else reference(task, self.column)
        if not given:
            return None
        problems = constraint_problems(given) if self.column else []
        if problems:
            raise ValueError(f"task {task.id}: {'; '.join(problems)}")
        answer = final_answer(completion)
        if not any(map(str.isalnum, answer)):
            return Score(value=0.0, status=Status.NO_ANSWER)
        if len(answer) > MAX_CHARS:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=f"longer than {MAX_CHARS} characters")
        broken = [constraint["kind"] for constraint in given if not is_met(constraint, answer)]
        return Score(value=1 - len(broken) / len(given), reason=f"broken: {', '.join(broken)}" if broken else None)


def is_met(constraint: Mapping[str, Any], text: str) -> bool:
    """Whether a text meets a valid constraint."""
    match constraint["kind"]:
        case what if what in COUNTS:
            return bool(constraint.get("at_least", 0) <= COUNTS[what](text) <= constraint.get("at_most", MAX_CHARS))
        case "include":
            return all(_occurrences(word, text) >= constraint.get("times", 1) for word in constraint["texts"])
        case "exclude":
            return not any(_occurrences(word, text) for word in constraint["texts"])
        case "case":
            return text.isupper() if constraint["is"] == "upper" else text.islower()
        case "starts_with":
            return text.startswith(constraint["text"])
        case "ends_with":
            return text.endswith(constraint["text"])
        case "no_commas":
            return not any(comma in text for comma in ",\u060c\u3001\uff0c")
        case "script":
            script = SCRIPTS[constraint["name"]]
            names = [unicodedata.name(char, "") for char in text if char.isalpha()]
            has_first = any(name.startswith(script[0]) for name in names)
            return has_first and sum(name.startswith(script) for name in names) >= 0.9 * len(names)
        case _:
            return _is_json(text)


def constraint_problems(given: Any) -> list[str]:
    """Return all problems of a list of constraints, each with its place."""
    if not isinstance(given, (list, tuple)):
        return [f"constraints are a list of objects, not {given!r}"[:200]]
    return [
        problem for place, constraint in enumerate(given) for problem in _problems(f"constraints[{place}]", constraint)
    ]


def _problems(where: str, constraint: Any) -> list[str]:
    kind = constraint.get("kind") if isinstance(constraint, Mapping) else None
    if not isinstance(kind, str) or kind not in KINDS:
        return [f"{where}: {constraint!r} has no valid kind; the kinds are {', '.join(KINDS)}"]
    required, optional = KINDS[kind]
    keys = {key: VALID[key] for key in (*required, *optional)}
    problems = [f"{where}.{key}: missing" for key in required if key not in constraint]
    for key, value in constraint.items():
        if key != "kind" and key not in keys:
            problems.append(f"{where}.{key}: the keys of '{kind}' are {', '.join(keys) or 'none'}")
        elif key != "kind" and not keys[key][0](value):
            problems.append(f"{where}.{key}: {value!r} is not {keys[key][1]}")
    if not problems and kind in COUNTS and not constraint.get("at_least", 0) <= constraint.get("at_most", MAX_CHARS):
        problems.append(f"{where}: at_least is more than at_most")
    if kind in COUNTS and not {"at_least", "at_most"} & constraint.keys():
        problems.append(f"{where}: set at_least, at_most or both")
    return problems


def _occurrences(word: str, text: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word.strip())}(?!\w)", text, re.IGNORECASE))


def _is_json(text: str) -> bool:
    try:
        json_answer(text)
    except ValueError:
        return False
    return True


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


KINDS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(COUNTS, ((), ("at_least", "at_most"))),
    "include": (("texts",), ("times",)),
    "exclude": (("texts",), ()),
    "case": (("is",), ()),
    "starts_with": (("text",), ()),
    "ends_with": (("text",), ()),
    "no_commas": ((), ()),
    "json": ((), ()),
    "script": (("name",), ()),
}
"""Required and optional keys of each kind."""

VALID: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "at_least": (_is_count, "a whole number of 0 or more"),
    "at_most": (_is_count, "a whole number of 0 or more"),
    "times": (lambda value: _is_count(value) and value > 0, "a whole number of 1 or more"),
    "text": (_is_text, "a text that is not empty"),
    "texts": (
        lambda value: isinstance(value, (list, tuple)) and bool(value) and all(map(_is_text, value)),
        "a list of texts that are not empty",
    ),
    "is": (lambda value: value in ("upper", "lower"), "upper or lower"),
    "name": (lambda value: isinstance(value, str) and value in SCRIPTS, f"one of {', '.join(SCRIPTS)}"),
}
"""The valid values of each key, and their description."""
