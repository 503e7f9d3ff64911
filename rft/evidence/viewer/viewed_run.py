"""One run as the viewer knows it: its overview, and its rollouts by page."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from rft.evidence.viewer.overview import is_run, read_overview
from rft.evidence.viewer.rollout_json import listed, whole
from rft.evidence.viewer.rollout_query import Query, find
from rft.evidence.viewer.rollout_store import RolloutStore
from rft.evidence.viewer.token_pieces import TokenPieces
from rft.health.heartbeat import HEARTBEAT
from rft.run_folder.json_lines import Tell
from rft.run_folder.recorder import EVENTS, METRICS, SUMMARY

MAX_PAGE = 200
"""Most completions of a page."""
MAX_TOKENS = 1_000_000
"""Most tokens with log-probabilities in a file."""
WATCHED = (METRICS, EVENTS, SUMMARY, HEARTBEAT)


class ViewedRun:
    """Reads a run for the page. Any thread may call it; one waits for the other.

    Args:
        folder: The run folder.
        name: Name of the run.
        tell: Receives sentences about damaged lines and about the progress of indexing.

    Raises:
        ValueError: The folder holds neither metrics nor completions.
    """

    def __init__(self, folder: Path, *, name: str, tell: Tell) -> None:
        if not is_run(folder):
            raise ValueError(f"{folder} is no run folder: it has neither {METRICS} nor rollouts.jsonl")
        self._folder, self._name, self._tell = folder, name, tell
        self._store = RolloutStore(folder, tell)
        self._pieces = TokenPieces(folder)
        self._phases: dict[int, str] = {}
        self._overview: dict[str, Any] = {}
        self._stamp: tuple[Any, ...] = ()
        self._lock = Lock()

    def overview(self) -> dict[str, Any]:
        """Return what the page shows apart from rollouts, with the files as they are now."""
        with self._lock:
            self._store.refresh()
            stamp = (len(self._store.records), *(_changed(self._folder / name) for name in WATCHED))
            if stamp != self._stamp:
                tell = _silent if self._stamp else self._tell  # damaged lines are told once
                self._overview = {
                    **read_overview(self._folder, name=self._name, tell=tell),
                    "num_rollouts": len(self._store.records),
                    "phases": self._store.asked(self._counted_phases),
                }
                self._stamp = stamp
            return self._overview

    def prepare(self) -> None:
        """Read what the first page of a long run would wait for."""
        with self._lock:
            self._store.refresh()
            self._store.asked(self._store.prepare)

    def page(self, query: Query, *, place: int, limit: int) -> dict[str, Any]:
        """Return a part of the list.

        Args:
            query: Filters, words and order.
            place: Place among those that fit the filters at which to begin.
            limit: Most rollouts to return, up to `MAX_PAGE`.
        """

        def ask() -> dict[str, Any]:
            found = find(query, self._store, place=max(0, place), limit=max(1, min(limit, MAX_PAGE)))
            lines = self._store.lines(found.rows)
            return {
                "rows": [listed(line, row) for line, row in zip(lines, found.rows, strict=True)],
                "next": found.next_place,
                "candidates": found.num_candidates,
                "is_complete": found.is_complete,
            }

        with self._lock:
            return self._store.asked(ask)

    def rollout(self, row: int) -> dict[str, Any]:
        """Return everything of a rollout.

        Raises:
            IndexError: There is no such row.
        """
        with self._lock:
            if not 0 <= row < len(self._store.records):
                raise IndexError(f"there is no completion {row}")
            [line] = self._store.asked(lambda: self._store.lines([row]))
            return whole(line, row, self._pieces)

    def chosen(self, most: int, *, max_tokens: int) -> list[dict[str, Any]]:
        """Return at most `most` rollouts with everything, chosen evenly over the run.

        Args:
            most: Rollouts to return.
            max_tokens: Most tokens with log-probabilities; the rollouts that have them are chosen evenly, too.
        """
        with self._lock:
            num_rows = len(self._store.records)
            rows = [int(place) for place in evenly(num_rows, most)]
            lines = self._store.asked(lambda: self._store.lines(rows))
            total = int(self._store.records["tokens"][rows].sum())
            every = max(1, -(-total // max_tokens))
            return [
                whole(line, row, self._pieces if number % every == 0 else None)
                for number, (line, row) in enumerate(zip(lines, rows, strict=True))
            ]

    def num_rollouts(self) -> int:
        """Return the number of rollouts at the last `overview`."""
        return len(self._store.records)

    def _counted_phases(self) -> dict[str, int]:
        """Return the number of rollouts by phase, in the order of their first one."""
        hashes, firsts, counts = np.unique(self._store.records["phase"], return_index=True, return_counts=True)
        unknown = [int(first) for known, first in zip(hashes, firsts, strict=True) if int(known) not in self._phases]
        for line, first in zip(self._store.lines(unknown), unknown, strict=True):
            self._phases[int(self._store.records["phase"][first])] = str(line.get("phase"))
        return {self._phases[int(hashes[place])]: int(counts[place]) for place in np.argsort(firsts)}


def evenly(num_items: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return at most `most` of the numbers below `num_items`, evenly spaced; all of them if they are not more."""
    if num_items <= most:
        return np.arange(num_items)
    return np.arange(most, dtype=np.int64) * num_items // most


def _silent(_: str) -> None:
    pass


def _changed(path: Path) -> tuple[int, int]:
    """Return size and modification time of a file; zeros without it."""
    try:
        stat = path.stat()
    except OSError:
        return 0, 0
    return stat.st_size, stat.st_mtime_ns
