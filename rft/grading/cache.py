"""Keeps scores between runs for deterministic graders, so a judge is not paid twice for the same answer.

The key of a score consists of its grader (the hash of its file, of its model and of `rft.grading`, and its options) and
of its inputs. Other modules that the grader imports are not part of the key. Only scores with a value are kept.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from rft.errors import OutputError
from rft.grading.contract import LoadedGrader
from rft.grading.processes.wire import decode_scores, encode_inputs, encode_scores
from rft.redaction import revealed
from rft.types import Rollout, Score, Task

log = logging.getLogger(__name__)

FILE = "scores.sqlite"
PANELS_OWN = ("weight", "timeout_s", "retries", "max_concurrency", "cache")
"""Keys of an entry that do not affect a score."""


class ScoreCache:
    """Scores in an SQLite file, which several processes may use concurrently.

    Args:
        folder: The folder of the file; created if it does not exist.

    Raises:
        OutputError: The folder cannot be used, or the file is not a cache.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self._file, isolation_level=None)
            self._connection.execute("PRAGMA synchronous = OFF")  # lost scores can be computed again
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, line TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            advice = "choose another folder, or delete the file if you do not need it"
            raise OutputError("grader cache", [f"{self._file} cannot be used: {error}; {advice}"]) from error

    @staticmethod
    def key(grader: LoadedGrader, task: Task, rollouts: Sequence[Rollout]) -> str | None:
        """Return the key of a call, 64 hexadecimal digits; None if JSON cannot hold its inputs."""
        entry = {name: value for name, value in revealed(grader.entry or {}).items() if name not in PANELS_OWN}
        try:
            inputs = encode_inputs(grader, task, rollouts)
        except ValueError:
            return None
        model = [] if grader.model_fingerprint is None else [grader.model_fingerprint]
        identity = json.dumps([_code_hash(), grader.sha256, entry, len(rollouts), *model], sort_keys=True)
        return hashlib.sha256(f"{identity}\n{inputs}".encode()).hexdigest()

    def get(self, key: str, count: int) -> list[Score] | None:
        """Return the scores of a call for `count` completions; None if the cache does not have them."""
        try:
            row = self._connection.execute("SELECT line FROM scores WHERE key = ?", [key]).fetchone()
            return None if row is None else decode_scores(row[0], count)[0]
        except (sqlite3.Error, ValueError) as error:  # an unreadable score is computed again
            log.warning("the grader cache %s cannot be read: %s", self._file, error)
            return None

    def put(self, key: str, scores: Sequence[Score]) -> None:
        """Keep the scores of a call if all of them have a value."""
        if not all(score.status.has_value for score in scores):
            return
        line = encode_scores(scores, scores[0].seconds).decode("ascii")
        try:
            self._connection.execute("INSERT OR REPLACE INTO scores VALUES (?, ?)", [key, line])
        except sqlite3.Error as error:
            log.warning("the grader cache %s cannot be written: %s", self._file, error)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


@functools.cache
def _code_hash() -> str:
    """Return the hash of the code behind all graders: answers, normalised results, styles."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()
