"""From a task to a grounded task: its prompt with passages, and the passages in `item` for graders.

This step is pure. The same row, passages and settings give the same prompt, in `rft train`, `rft evaluate` and
`rft sample` alike. Chance comes from hashes of `retrieval.seed` and the query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rft.config.retrieval.base import RetrievalConfig
from rft.data.demonstration_records import Demonstration
from rft.data.messages import BadRow
from rft.retrieval.passages import Passage, Query
from rft.retrieval.templates import DEFAULT, PROMPT, PromptTemplate
from rft.turns import PASSAGES
from rft.types import Task

FINGERPRINT, LEFT_OUT, IS_LEFT_OUT = "passages_fingerprint", "left_out", "passages_left_out"
"""Columns beside `passages`: the store's fingerprint; what a row expects without its relevant passages; whether they
are left out."""
SPARE = 16
"""Passages that are found beyond those shown, where some are taken away: excluded or relevant ones."""


class Grounding:
    """Puts passages into tasks.

    Args:
        config: The settings.

    Raises:
        ValueError: A template cannot be used.
    """

    def __init__(self, config: RetrievalConfig) -> None:
        self._config = config
        query = config.query
        self._query = PromptTemplate(query, key="retrieval.query") if query and "{" in query else None
        self._template = PromptTemplate(config.template or DEFAULT, key="retrieval.template")
        self._takes_away = bool(config.exclude or config.distractors or config.left_out_share)
        self.num_wanted = config.top_k + config.distractors + (SPARE if self._takes_away else 0)
        """Passages to search for."""

    def query(self, task: Task) -> Query:
        """Return what to search for.

        Raises:
            BadRow: The row lacks a column, or has no prompt.
        """
        self._refuse(task)
        config, prompt = self._config, task.messages[_last_of_user(task)]["content"]
        if self._query is not None:
            text = _rendered(self._query, {**task.item, PROMPT: prompt})
        elif config.query is None:
            text = prompt
        else:
            text = str(_column(task.item, config.query, "retrieval.query"))
        if not text.strip():
            raise BadRow("the query is empty; see retrieval.query")
        return Query(text=text, filters=config.filters)

    def _refuse(self, task: Task) -> None:
        """Refuse rows that cannot be grounded, before anything is searched."""
        config, item = self._config, task.item
        problems = [f'"{name}" is a column of the row; rename it' for name in (PASSAGES, FINGERPRINT) if name in item]
        for template in (self._query, self._template):
            if template and (missing := template.missing(item, PROMPT, PASSAGES)):
                columns = ", ".join(item) or "no columns"
                problems.append(f"{template.key} names {', '.join(missing)}, and the row has: {columns}")
        if all(message["role"] != "user" for message in task.messages):
            problems.append("no message of the user, to which passages could be added")
        if config.left_out_share and ids_in(item, config.relevant) and not isinstance(item.get(LEFT_OUT), Mapping):
            problems.append(
                f'no "{LEFT_OUT}" that says what to expect without the relevant passages, as '
                f'{{"answer": "The sources do not say."}} (retrieval.left_out_share={config.left_out_share:g})'
            )
        if config.left_out_share and ids_in(item, config.relevant) and isinstance(task, Demonstration):
            problems.append(
                "its own answer needs the passages that retrieval.left_out_share leaves out; set it to 0, or use a "
                "learner that samples, such as learner=grpo"
            )
        if self._takes_away and len(ids_in(item, config.exclude)) + len(ids_in(item, config.relevant)) > SPARE:
            problems.append(f"names more than {SPARE} passages in retrieval.exclude and retrieval.relevant")
        if problems:
            raise BadRow("; ".join(problems))

    def ground(self, task: Task, query: Query, found: Sequence[Passage], fingerprint: str) -> Task:
        """Return the task with passages.

        Args:
            task: A task that `query` accepts.
            query: Its query.
            found: Up to `num_wanted` passages, the best first.
            fingerprint: The store's.

        Raises:
            BadRow: The template fails, or no passage is left and `retrieval.allow_empty` is false.
        """
        config = self._config
        is_left_out = self._is_left_out(task, query)
        shown = [passage.to_json() for passage in self._shown(task, query, found, is_left_out=is_left_out)]
        if not shown and not config.allow_empty:
            raise BadRow(
                f"no passage for {query.text[:80]!r}"
                + (f" scores at least retrieval.min_score={config.min_score:g}" if found else "")
                + "; retrieval.allow_empty=true shows a prompt without passages"
            )
        item: dict[str, Any] = {**task.item, **(task.item[LEFT_OUT] if is_left_out else {})}
        last = _last_of_user(task)
        before = task.messages[last]
        text = _rendered(self._template, {**item, PROMPT: before["content"], PASSAGES: shown})
        messages = (*task.messages[:last], {**before, "content": text}, *task.messages[last + 1 :])
        item |= {PASSAGES: shown, FINGERPRINT: fingerprint}
        if config.left_out_share:
            item[IS_LEFT_OUT] = is_left_out
        if isinstance(task, Demonstration):
            return replace(task, messages=messages, item=item, chat=(*messages, *task.chat[len(messages) :]))
        return replace(task, messages=messages, item=item)

    def _shown(self, task: Task, query: Query, found: Sequence[Passage], *, is_left_out: bool) -> list[Passage]:
        config = self._config
        excluded = ids_in(task.item, config.exclude)
        relevant = ids_in(task.item, config.relevant)
        taken_away = excluded | relevant if is_left_out else excluded
        least = config.min_score
        fitting = [
            passage
            for passage in found
            if passage.id not in taken_away and (least is None or passage.score >= least)
        ]  # fmt: skip
        others = [passage for passage in fitting[config.top_k :] if passage.id not in relevant]
        shown = fitting[: config.top_k] + others[: config.distractors]
        if config.shuffle:
            shown.sort(key=lambda passage: _draw(config.seed, "order", query.text, passage.id))
        return shown

    def _is_left_out(self, task: Task, query: Query) -> bool:
        config = self._config
        if not config.left_out_share or not ids_in(task.item, config.relevant):
            return False
        return _draw(config.seed, "left out", query.text) < config.left_out_share


def _draw(*parts: object) -> float:
    """Return a number from 0 to 1 that depends only on the parts."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def ids_in(item: Mapping[str, Any], column: str | None) -> frozenset[str]:
    """Return the ids in a column of a row, which holds one, a list of them, or nothing."""
    value = None if column is None else item.get(column)
    values = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return frozenset(map(str, values))


def _column(item: Mapping[str, Any], name: str, key: str) -> Any:
    if item.get(name) is None:
        raise BadRow(f'no column "{name}" ({key}={name}); it has: {", ".join(item) or "no columns"}')
    return item[name]


def _last_of_user(task: Task) -> int:
    return max(place for place, message in enumerate(task.messages) if message["role"] == "user")


def _rendered(template: PromptTemplate, values: Mapping[str, Any]) -> str:
    try:
        return template.render(values)
    except ValueError as error:
        raise BadRow(str(error)) from error
