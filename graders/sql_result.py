"""SqlResult: the model's SQL query yields the same rows as the task's query, on an SQLite database.

graders:
  correct:
    use: sql
    column: sql

A task's column contains the reference query, and the database as a script or a list of scripts:

    {"schema": "CREATE TABLE t (a INT); INSERT INTO t VALUES (1), (2);", "query": "SELECT sum(a) FROM t"}

A query that only states the expected rows passes with one database; a second database with other rows exposes it.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from graders.code_blocks import last_code_block
from rft.grading import Score, Status, Task, final_answer, reference

MAX_VALUE_BYTES = 1_000_000
"""Maximum size of a text or blob of a query."""
MAX_RESULT_BYTES = 20_000_000
"""Maximum size of the result, all rows together."""
MAX_COLUMNS = 200
MAX_QUERY_CHARS = 20_000
HEAP_BYTES = 1 << 29
"""Maximum memory of SQLite in this process."""
STEPS_BETWEEN_CHECKS = 1000
"""Steps of SQLite's virtual machine between two checks of the deadline."""

_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_NOT_IN_SCHEMAS = {sqlite3.SQLITE_ATTACH, sqlite3.SQLITE_DETACH, sqlite3.SQLITE_PRAGMA}
_NO_FUNCTIONS = {"load_extension", "fts3_tokenizer"}
_QUOTED = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]", re.DOTALL)
_INNERMOST = re.compile(r"\([^()]*\)")
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SqlResult:
    """Scores 1 if the query yields the reference's rows on every database of the task, otherwise 0.

    The order of the rows counts if the reference has an ORDER BY; the names of columns never count. The query can only
    read; a failing query is a fault of the model. The judged query is the last fenced block of SQL in the final answer,
    otherwise the whole answer. A task with an empty column is skipped.
    """

    column: str = "sql"
    """The task's column with the database and the reference."""
    seconds: float = 5.0
    """Time limit of each query; keep it well below the grader's `timeout_s`."""
    max_rows: int = 10_000
    """Maximum number of rows; a query that yields more fails."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.max_rows <= 0:
            raise ValueError("seconds and max_rows must be above 0")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the rows."""
        tests = reference(task, self.column)
        if tests is None:
            return None
        if not isinstance(tests, Mapping) or not {"schema", "query"} <= tests.keys() or not tests["schema"]:
            raise ValueError(f"column '{self.column}' of task {task.id} lacks a schema or a query")
        query = last_code_block(final_answer(completion), ("", "sql", "sqlite")).strip()
        if not query:
            return Score(value=0.0, status=Status.NO_ANSWER)
        schemas = [tests["schema"]] if isinstance(tests["schema"], str) else tests["schema"]
        references = [self._rows(schema, tests["query"]) for schema in schemas]
        if not any(references):
            raise ValueError(f"the query of task {task.id} yields no rows, so any query without rows would be right")
        try:
            answers = [self._rows(schema, query) for schema in schemas]
        except (sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError, ValueError) as error:
            return Score(value=0.0, status=Status.INVALID_OUTPUT, answer=query[-2000:], reason=str(error)[:300])
        ordered = is_ordered(tests["query"])
        same = all(is_same(expected, rows, ordered) for expected, rows in zip(references, answers, strict=True))
        return Score(value=float(same), answer=query[-2000:])

    def _rows(self, schema: str, query: str) -> list[tuple[Any, ...]]:
        """Run a query on a new database in memory.

        Raises:
            sqlite3.Error: The query is invalid, forbidden, or too slow.
            ValueError: The query is too long, or its result too large.
            MemoryError: SQLite reached its memory limit.
        """
        if len(query) > MAX_QUERY_CHARS:
            raise ValueError(f"the query is longer than {MAX_QUERY_CHARS} characters")
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute(f"PRAGMA hard_heap_limit = {HEAP_BYTES}")
            database.set_authorizer(_allow_building)
            database.executescript(schema)
            database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
            database.setlimit(sqlite3.SQLITE_LIMIT_COLUMN, MAX_COLUMNS)
            database.set_authorizer(_allow_reading)
            deadline = time.monotonic() + self.seconds
            database.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_CHECKS)
            rows, size = [], 0
            for row in database.execute(query):
                rows.append(row)
                size += sum(len(value) for value in row if isinstance(value, str | bytes))
                if len(rows) > self.max_rows or size > MAX_RESULT_BYTES:
                    raise ValueError(f"the query yields more than {self.max_rows} rows or {MAX_RESULT_BYTES} bytes")
        return rows


def is_ordered(query: str) -> bool:
    """Whether a query has an ORDER BY outside parentheses."""
    plain, count = _QUOTED.sub(" ", query), 1
    while count:
        plain, count = _INNERMOST.subn(" ", plain)
    return _ORDERED.search(plain) is not None


def is_same(expected: list[tuple[Any, ...]], got: list[tuple[Any, ...]], ordered: bool) -> bool:
    """Compare rows, numbers to 9 digits: 2 equals 2.0, but '2' is a text."""
    expected_keys, got_keys = ([tuple(map(_key, row)) for row in rows] for rows in (expected, got))
    return expected_keys == got_keys if ordered else Counter(expected_keys) == Counter(got_keys)


def _key(value: Any) -> tuple[str, Any]:
    if isinstance(value, float):
        return "number", int(value) if value.is_integer() else float(f"{value:.9g}")
    return "number" if isinstance(value, int) else type(value).__name__, value


def _allow_building(action: int, *_: str | None) -> int:
    return sqlite3.SQLITE_DENY if action in _NOT_IN_SCHEMAS else sqlite3.SQLITE_OK


def _allow_reading(action: int, _: str | None, name: str | None, *__: str | None) -> int:
    forbidden = action not in _READING or (action == sqlite3.SQLITE_FUNCTION and name in _NO_FUNCTIONS)
    return sqlite3.SQLITE_DENY if forbidden else sqlite3.SQLITE_OK
