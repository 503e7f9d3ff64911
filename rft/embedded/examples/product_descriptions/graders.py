"""Supported facts: a description states the given facts, and nothing that they do not support.

graders:
  facts:
    use: rft.embedded.examples.product_descriptions.graders:SupportedFacts
    column: facts

The answer is a JSON object with `title` and `description`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.answers import json_answer

FIELDS = ("title", "description")
MATERIALS = (
    "aluminium bakelite brass bronze canvas ceramic chrome copper cotton crystal enamel glass gold iron ivory leather "
    "linen marble oak pewter pine plastic porcelain rattan silk silver stainless steel teak tin velvet walnut wicker "
    "wood wooden wool"
)
COLOURS = "amber black blue brown cream green grey orange pink purple red turquoise white yellow"
PROMISES = (
    "antique authentic certified collectible flawless genuine guaranteed handmade handcrafted limited mint museum "
    "original patented perfect rare restored royal serviced signed unique unused waterproof warranty"
)
CLAIMS = frozenset(f"{MATERIALS} {COLOURS} {PROMISES}".split())
"""Words that state something about an item. A description may use those of the facts."""

ARTICLES = frozenset(("a", "an", "the"))

_WORD = re.compile(r"[a-z]+|\d+")


@dataclass(frozen=True, kw_only=True)
class SupportedFacts:
    """Scores the share of the facts that the description states, 0 to 1, and 0 if it claims anything else.

    A fact is stated if all its words but articles occur. A number, or a word of `CLAIMS`, that no fact contains is a
    claim without support. The grader finds no other claims, and does not judge the language. A task with an empty
    column is skipped.
    """

    deterministic: ClassVar[bool] = True
    in_process: ClassVar[bool] = True

    column: str = "facts"
    """The task's column with the facts: an object of texts."""

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the description with the facts."""
        facts = reference(task, self.column)
        if facts is None:
            return None
        if not isinstance(facts, Mapping) or not facts:
            raise ValueError(f"column '{self.column}' of task {task.id} is not an object of facts: {facts!r}"[:300])
        if not final_answer(completion):
            return Score(value=0.0, status=Status.NO_ANSWER)
        try:
            answer = json_answer(completion)
        except ValueError as error:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason=str(error))
        if not isinstance(answer, Mapping) or not all(isinstance(answer.get(field), str) for field in FIELDS):
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason="no object with title and description")
        said = _words(" ".join(answer[field] for field in FIELDS))
        known = {name: _words(str(value)) for name, value in facts.items()}
        supported = frozenset[str]().union(*known.values())
        invented = sorted(word for word in said - supported if word.isdigit() or word in CLAIMS)
        if invented:
            return Score(value=0.0, reason=f"not supported: {', '.join(invented)}")
        missing = [name for name, words in known.items() if not words <= said]
        return Score(value=1 - len(missing) / len(known), reason=f"missing: {', '.join(missing)}" if missing else None)


def _words(text: str) -> frozenset[str]:
    return frozenset(_WORD.findall(text.casefold())) - ARTICLES
