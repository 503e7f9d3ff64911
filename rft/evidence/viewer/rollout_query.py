"""Which rollouts of a run a reader wants to see: filters, words and order."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from rft.evidence.viewer.rollout_store import RolloutStore
from rft.run_folder.rollout_index import CUT, EPISODE, FAULT, hashed

ORDERS = ("oldest", "newest", "highest", "lowest", "longest")
STATES = ("", "no reward", "fault", "cut", "episode")
SEARCH_S = 0.8
"""Seconds that one request searches texts; the next request goes on."""
CHUNK = 1000
"""Lines to read at once for a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question of the page. An empty text and None mean: any.

    Example:
        Query(phase="train", from_step=10, words="error", order="newest")
    """

    phase: str = ""
    """Purpose of the rollouts."""
    task: str = ""
    """Id of the task."""
    from_step: float | None = None
    """First step."""
    to_step: float | None = None
    """Last step."""
    low: float | None = None
    """Lowest reward."""
    high: float | None = None
    """Highest reward."""
    state: str = ""
    """One of `STATES`: no reward, a fault of a grader or the environment, cut off, an episode."""
    words: str = ""
    """Words that prompt, completion, task or reasons contain, in any case."""
    order: str = "oldest"
    """One of `ORDERS`."""

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Query:
        """Return the query of a request's parameters; unknown ones are left out.

        Raises:
            ValueError: A value is not allowed.
        """
        given: dict[str, Any] = {}
        for field in fields(cls):
            if text := values.get(field.name, ""):
                is_number = field.name in ("from_step", "to_step", "low", "high")
                given[field.name] = float(text) if is_number else text
        query = cls(**given)
        if query.order not in ORDERS or query.state not in STATES:
            raise ValueError(f"order is one of {', '.join(ORDERS)}; state is one of {', '.join(STATES)}")
        return query

    def rows(self, store: RolloutStore) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the rows that fit apart from `words`, in order."""
        known = store.records
        fits = np.ones(len(known), bool)
        if self.phase:
            fits &= known["phase"] == hashed(self.phase)
        if self.task:
            fits &= known["task"] == hashed(self.task)
        for name, low, high in (("step", self.from_step, self.to_step), ("reward", self.low, self.high)):
            if low is not None:
                fits &= known[name] >= low
            if high is not None:
                fits &= known[name] <= high
        if self.state == "no reward":
            fits &= np.isnan(known["reward"])
        elif self.state:
            fits &= (known["flags"] & {"fault": FAULT, "cut": CUT, "episode": EPISODE}[self.state]) > 0
        rows = np.flatnonzero(fits)
        if self.order in ("highest", "lowest"):
            rewards = known["reward"][rows]  # NaN comes last in either order
            return rows[np.argsort(-rewards if self.order == "highest" else rewards, kind="stable")]
        if self.order == "longest":
            return rows[np.argsort(-known["tokens"][rows].astype(np.int64), kind="stable")]
        return rows[::-1] if self.order == "newest" else rows


class Found(NamedTuple):
    """A part of the answer.

    Example:
        Found(rows=[3, 4], next_place=5, num_candidates=120, is_complete=False)
    """

    rows: list[int]
    """Rows that fit, in order."""
    next_place: int
    """Place among the candidates at which to go on."""
    num_candidates: int
    """Rows that fit apart from the words; without words, all that fit."""
    is_complete: bool
    """Whether there is nothing after `next_place`."""


def find(query: Query, store: RolloutStore, *, place: int, limit: int, search_s: float = SEARCH_S) -> Found:
    """Find rows.

    Args:
        query: What to find.
        store: The rollouts.
        place: Place among the candidates at which to begin.
        limit: Most rows to return.
        search_s: Seconds after which a search by words returns what it has.

    Raises:
        IndexMismatch: The files have changed; see `RolloutStore.asked`.
    """
    candidates = query.rows(store)
    words = query.words.lower().split()
    if not words:
        rows = candidates[place : place + limit].tolist()
        return Found(rows, place + len(rows), len(candidates), place + len(rows) >= len(candidates))
    needles = [json.dumps(word)[1:-1].encode() for word in words if word.isascii()]
    longest = max(needles, key=len, default=b"")
    found: list[int] = []
    until = time.monotonic() + search_s
    while place < len(candidates) and len(found) < limit and time.monotonic() < until:
        chunk = candidates[place : place + CHUNK].tolist()
        fitting = {row for raw, row in store.raw_lines(chunk, needle=longest) if _has(raw, needles, words)}
        if not fitting:
            place += len(chunk)
            continue
        for row in chunk:
            place += 1
            if row in fitting:
                found.append(row)
                if len(found) == limit:
                    break
    return Found(found, place, len(candidates), place >= len(candidates))


def _has(raw: bytes, needles: list[bytes], words: list[str]) -> bool:
    """Whether a line contains the words. The needles are words in its bytes, which need no parsing."""
    lower = raw.lower()
    if not all(needle in lower for needle in needles):
        return False
    text = searched_text(json.loads(raw))
    return all(word in text for word in words)


def searched_text(line: Mapping[str, Any]) -> str:
    """Return the text of a rollout that words are searched in, in lower case."""
    messages = [*(line.get("messages") or ()), *(each for turn in line.get("turns") or () for each in turn["messages"])]
    contents = [message.get("content") for message in messages]
    calls = [json.dumps(message["tool_calls"]) for message in messages if message.get("tool_calls")]
    reasons = [str(score.get("reason") or "") for score in (line.get("scores") or {}).values()]
    texts = [content if isinstance(content, str) else json.dumps(content) for content in contents if content]
    return "\n".join([str(line.get("task_id")), str(line.get("completion")), *texts, *calls, *reasons]).lower()
