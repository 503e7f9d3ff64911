"""Composite: combines several graders into one score.

graders:
  main:
    use: composite
    how: gate                  # correctness only counts if the format holds
    gate: {use: format, pattern: '(?s)<think>.+</think>.+'}
    of:
      correct: {use: numeric}
      brief: {use: contains, column: unit, weight: 0.2}

| how | score |
|---|---|
| sum | the weighted sum of the children's scores |
| mean | the weighted mean |
| product, min | of the children's scores |
| grounded | the product, for answers that cite passages; the graders of the answer read it without its citations |
| gate | the mean, or 0 without calling the children if the gate's score is below `open_at` |
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rft.grading import LoadedGrader, Rollout, Score, Status, Task, grader_problems, load_grader
from rft.grading.cited_answers import ABOUT_PASSAGES, read_sources, without_citations
from rft.grading.models.model_grader import model_of
from rft.grading.normalise import describe_error, to_score


@dataclass(frozen=True, kw_only=True)
class Composite:
    """Combines the children's scores. It has no value if a child that was called has none.

    A penalty (a score below 0) is an error in a product, where two penalties would make a reward, and behind a gate,
    which a model would close to escape the penalty. Put a penalty beside the composite.

    `how: grounded` needs a grader of the answer and one of its passages (cites, quotes, supported, abstains, claims).
    The latter is not called where the answer is wrong.

    The composite's deadline holds for all children together. Their scores are not cached.
    """

    how: Literal["sum", "mean", "product", "min", "gate", "grounded"]
    """The combination of the scores."""
    of: dict[str, dict[str, Any]]
    """The children by name, each an entry as in `graders`: `use`, its options, and `weight` for sum, mean and gate."""
    gate: dict[str, Any] | None = None
    """The grader of the gate, for `how: gate`; an entry like the children's."""
    open_at: float = 1.0
    """Minimum score of the gate that opens it."""

    def __post_init__(self) -> None:
        problems = [] if self.of else ["of: add at least one grader"]
        if (self.gate is not None) != (self.how == "gate"):
            problems.append("gate: required for `how: gate`, and not allowed otherwise")
        for path, entry in self._entries().items():
            child_problems = [problem.removeprefix("graders.") for problem in grader_problems(path, entry)]
            problems += child_problems or _unfit(path, entry, self.how)
        if not problems and self.how == "grounded":
            problems = self._not_grounded()
        if not problems and self.how in ("mean", "gate") and not sum(self._weights().values()) > 0:
            problems.append("of: the sum of the weights must be above 0")
        if problems:
            raise ValueError("; ".join(problems))

    @property
    def in_process(self) -> bool:
        """Whether all children run in process; a worker process waits for async children."""
        return all(child.in_process and not _is_async(child) for child in self._children.values())

    def warm_up(self) -> None:
        """Warm up the children."""
        for child in self._children.values():
            warm_up = getattr(getattr(child.call, "__self__", None), "warm_up", None)
            if warm_up is not None:
                warm_up()

    def grade(self, completion: str, task: Task, rollout: Rollout) -> Score:
        """Call the gate, then the children, and combine their scores."""
        arguments = {"completion": completion, "task": task, "rollout": rollout}
        children = dict(self._children)
        gate = children.pop("gate", None)
        if gate is not None:
            score = _ask({"gate": gate}, arguments)["gate"]
            if score.value is None:
                return _without_value("gate", score)
            if score.value < self.open_at:
                return Score(value=0.0, reason=f"gate: {score.value:g} {score.reason or ''}".strip())
        ask = _ask_grounded if self.how == "grounded" else _ask
        scores = ask(children, arguments)
        for name, score in scores.items():
            if score.value is None:
                return _without_value(name, score)
        values = {name: score.value for name, score in scores.items() if score.value is not None}
        reason = ", ".join(f"{name.removeprefix('of.')} {value:g}" for name, value in values.items())
        answer = next((score.answer for score in scores.values() if score.answer is not None), None)
        return Score(value=self._combined(values), reason=reason, answer=answer)

    def _combined(self, values: Mapping[str, float]) -> float:
        penalties = [name for name, value in values.items() if value < 0]
        if penalties and self.how in ("product", "gate", "grounded"):
            raise ValueError(f"{penalties[0]} is below 0, which `how: {self.how}` does not allow; put it beside")
        if self.how in ("product", "grounded"):
            return math.prod(values.values())
        if self.how == "min":
            return min(values.values())
        weights = self._weights()
        total = sum(weights[name] * value for name, value in values.items())
        return total if self.how == "sum" else total / sum(weights.values())

    def _not_grounded(self) -> list[str]:
        """Return what is missing for `how: grounded`."""
        are_about_passages = {child.use in ABOUT_PASSAGES for child in self._children.values()}
        missing = {False: "of the answer, such as contains", True: f"of citations: {', '.join(sorted(ABOUT_PASSAGES))}"}
        return [
            f"of: `how: grounded` needs a grader {missing[kind]}" for kind in missing if kind not in are_about_passages
        ]

    def _entries(self) -> dict[str, Any]:
        gate = {} if self.gate is None else {"gate": self.gate}
        return gate | {f"of.{name}": entry for name, entry in self.of.items()}

    def _weights(self) -> dict[str, float]:
        return {path: child.weight for path, child in self._children.items() if path != "gate"}

    @functools.cached_property
    def _children(self) -> dict[str, LoadedGrader]:
        return {path: load_grader(path, entry) for path, entry in self._entries().items()}


def _unfit(path: str, entry: Mapping[str, Any], how: str) -> list[str]:
    """Return the problems of a child's entry that is valid by itself."""
    child = load_grader(path, entry)
    problems = [f"{path}.use: a grader of whole groups cannot be part of a composite"] if child.per_group else []
    if model_of(child) is not None:  # a worker process has no model
        problems.append(f"{path}.use: {child.use} cannot be part of a composite; list it beside the composite")
    if "weight" in entry and (path == "gate" or how in ("product", "min", "grounded")):
        problems.append(f"{path}.weight: it has no effect here")
    elif child.weight < 0 and how in ("mean", "gate"):
        problems.append(f"{path}.weight: {child.weight:g} must be at least 0 in a mean")
    unused = [key for key in ("timeout_s", "retries", "max_concurrency", "range", "clip", "cache") if key in entry]
    return problems + [f"{path}.{key}: set it on the composite instead" for key in unused]


def _ask(children: Mapping[str, LoadedGrader], arguments: Mapping[str, Any]) -> dict[str, Score]:
    """Call the sync children one after another, then the async children concurrently."""
    scores = {name: _call(child, arguments) for name, child in children.items() if not _is_async(child)}
    waiting = {name: child for name, child in children.items() if _is_async(child)}
    if waiting:
        scores |= asyncio.run(_ask_together(waiting, arguments))
    return {name: scores[name] for name in children}


async def _ask_together(children: Mapping[str, LoadedGrader], arguments: Mapping[str, Any]) -> dict[str, Score]:
    calls = (child.call(**{name: arguments[name] for name in child.takes}) for child in children.values())
    results = await asyncio.gather(*calls, return_exceptions=True)
    return {
        name: _failed(result, child) if isinstance(result, BaseException) else to_score(result)
        for (name, child), result in zip(children.items(), results, strict=True)
    }


def _ask_grounded(children: Mapping[str, LoadedGrader], arguments: Mapping[str, Any]) -> dict[str, Score]:
    """Call the graders of the answer, without its citations; then those of its citations, unless one scored 0."""
    task = arguments["task"]
    bare = without_citations(arguments["completion"], read_sources(task, relevant="").texts)
    of_answer = {name: child for name, child in children.items() if child.use not in ABOUT_PASSAGES}
    scores = _ask(of_answer, {**arguments, "completion": bare})
    if all(score.value for score in scores.values()):
        scores |= _ask({name: child for name, child in children.items() if name not in of_answer}, arguments)
    return scores


def _call(child: LoadedGrader, arguments: Mapping[str, Any]) -> Score:
    try:
        return to_score(child.call(**{name: arguments[name] for name in child.takes}))
    except Exception as error:
        return _failed(error, child)


def _failed(error: BaseException, child: LoadedGrader) -> Score:
    return Score(value=None, status=Status.GRADER_ERROR, reason=describe_error(error, child.file))


def _without_value(name: str, score: Score) -> Score:
    return Score(value=None, status=score.status, reason=f"{name}: {score.reason or score.status}")


def _is_async(child: LoadedGrader) -> bool:
    return inspect.iscoroutinefunction(child.call)
