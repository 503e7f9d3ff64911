"""ReasoningGym: the score of reasoning-gym's scorer for the family of the task.

graders:
  correct:
    use: reasoning_gym

A task's columns are those of `reasoning_gym.create_dataset`: `answer`, and `metadata` with `source_dataset`.

Some of reasoning-gym's scorers run the model's answer as Python code. They receive only harmless answers, and families
whose answers cannot be checked in this way are refused.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, ClassVar

from rft.grading import Score, Status, Task, final_answer, reference

_ARITHMETIC = re.compile(r"(?!.*\*\s*\*)[0-9+\-*/().\s]{1,200}", re.DOTALL | re.ASCII)
"""No names, so no calls; no powers, so no endless computation."""
_LIST = re.compile(r"(?!.*\bfor\b)[\w\s\[\],'\"-]{1,4000}", re.DOTALL | re.ASCII)
"""No parenthesis, no dot, no loop."""

HARMLESS: Mapping[str, re.Pattern[str]] = {
    "binary_matrix": _LIST,
    "coin_flip": _ARITHMETIC,
    "countdown": _ARITHMETIC,
    "n_queens": _LIST,
    "puzzle24": _ARITHMETIC,
    "spiral_matrix": _LIST,
    "string_insertion": _LIST,
}
"""Families whose scorer evaluates the answer, and the answers that it may see."""
REFUSED = frozenset({"intermediate_integration", "polynomial_multiplication", "simple_integration"})
"""Families whose scorer evaluates the answer as an algebraic term with function calls."""


@dataclass(frozen=True, kw_only=True)
class ReasoningGym:
    """Scores 1 if reasoning-gym gives full marks, otherwise 0; `exact: false` keeps its partial marks.

    Partial marks do not measure how nearly right an answer is. Many families divide the length of the reference by the
    length of any answer that contains it: if 1 is right, 10 earns 0.5. Others give 0.01 to every answer.

    The judged text is the content of the last `<answer>` tag, reasoning-gym's own convention, otherwise the final
    answer.
    """

    deterministic: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("reasoning_gym",)

    exact: bool = True
    """Whether only full marks score 1."""

    def warm_up(self) -> None:
        """Import reasoning-gym before the workers are forked; otherwise each worker needs a second for it."""
        _import_reasoning_gym()

    def grade(self, completion: str, task: Task) -> Score:
        """Call the scorer."""
        entry = {
            "question": task.messages[-1]["content"],
            "answer": reference(task, "answer"),
            "metadata": reference(task, "metadata"),
        }
        family = entry["metadata"]["source_dataset"]
        if family in REFUSED:
            raise ValueError(f"the scorer of '{family}' would run the model's answer as code; use another grader")
        answer = final_answer(completion)
        answer = answer.rpartition("<answer>")[2].partition("</answer>")[0].strip()
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        if family in HARMLESS and not HARMLESS[family].fullmatch(answer):
            return Score(value=0.0, status=Status.INVALID_OUTPUT, answer=answer)
        score = _scorer(family)
        try:
            value = float(score(answer, entry))
        except Exception as error:
            score(entry["answer"], entry)  # also raises if the task, not the model's answer, is at fault
            return Score(value=0.0, status=Status.INVALID_OUTPUT, answer=answer, reason=str(error))
        return Score(value=float(value >= 1.0) if self.exact else value, answer=answer)


@functools.cache
def _scorer(family: str) -> Callable[[str, Mapping[str, Any]], float]:
    """Return a family's scorer."""
    score: Callable[[str, Mapping[str, Any]], float] = _import_reasoning_gym().get_score_answer_fn(family)
    return score


def _import_reasoning_gym() -> ModuleType:
    """Import reasoning-gym without the warnings about the syntax of a library of its."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # cellpylib compares with `is`; shown when it is first compiled
        import reasoning_gym
    module: ModuleType = reasoning_gym
    return module
