"""The built-in tool `sql`: queries on the task's own SQLite database, in the sandbox (docs/sandbox.md).

A column of the task holds the database as an SQL script, or a mapping whose `schema` is such a script or a list of
them, as for the grader `sql`; the first one is used. Nothing else of the column enters the sandbox, so no query can
find the reference. Every call builds the database again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rft.config.fields import Positive
from rft.episodes.tools.built_in.base import Call, Described, SandboxedTool
from rft.episodes.tools.tool import ToolError
from rft.grading.sandbox import Limits, Sandbox
from rft.types import Task

MAX_QUERY_CHARACTERS = 20_000
"""Longest query."""

_HARNESS = r"""
def harness():
    import json, sqlite3, sys
    schema, changes, query, may_change, max_rows = json.loads(sys.stdin.read())
    database = sqlite3.connect(":memory:", isolation_level=None)
    try:
        database.executescript(schema)
    except sqlite3.Error as error:
        return {"fault": str(error)}
    try:
        for change in changes:
            database.execute(change)
    except sqlite3.Error as error:
        return {"error": f"an earlier statement, which every call makes again, does not succeed each time: {error}"}
    if not may_change:
        database.execute("PRAGMA query_only = ON")
    before = database.total_changes
    try:
        cursor = database.execute(query)
        rows = cursor.fetchmany(max_rows + 1)
        shown = [["NULL" if value is None else str(value) for value in row] for row in rows]
    except (sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError, UnicodeError) as error:
        return {"error": str(error) or "out of memory"}
    names = [column[0] for column in cursor.description or ()]
    return {"names": names, "rows": shown, "changed": database.total_changes - before}
import json
print(json.dumps(harness()))
"""


class SqlTool(SandboxedTool):
    """The options of `sql`."""

    column: str = "sql"
    """The task's column with the database."""
    may_change: bool = False
    """Whether statements may change the database; later calls of the episode then see the changes."""
    max_rows: Positive = 50
    """Rows that a result shows."""

    def described(self, name: str) -> Described:
        """Return one tool with the name of the entry."""
        text = "Run one SQL statement on the SQLite database, and return its rows. sqlite_master has the tables."
        return {name: (text, {"query": "The statement."})}

    def calls(self, name: str, task: Task) -> Mapping[str, Call]:
        """Return its call, which works on the task's database.

        Raises:
            ValueError: The task has none.
        """
        script = script_of(task.item.get(self.column), self.column, task.id)
        database = Database(script, self.sandbox, self.limits, may_change=self.may_change, max_rows=self.max_rows)
        return {name: lambda arguments: database.query(arguments["query"])}


@dataclass
class Database:
    """The database of one episode.

    Args:
        script: Builds it.
        sandbox: Runs the queries.
        limits: Limits of one call.
        may_change: Whether statements may change it; later calls of the episode then see the changes.
        max_rows: Rows that are shown.
    """

    script: str
    sandbox: Sandbox
    limits: Limits
    may_change: bool = False
    max_rows: int = 50
    _changes: list[str] = field(default_factory=list, init=False)

    async def query(self, query: str) -> str:
        """Run one statement, and return its rows: a line of names, then a line for each row, separated by ` | `.

        Raises:
            SandboxError: No process could be started.
            ToolError: The statement is wrong, or reached a limit.
            ValueError: The task's script cannot be run.
        """
        if len(query) > MAX_QUERY_CHARACTERS:
            raise ToolError(f"the query has {len(query)} characters; at most {MAX_QUERY_CHARACTERS} are allowed")
        order = json.dumps([self.script, self._changes, query, self.may_change, self.max_rows])
        result = await self.sandbox.arun(_HARNESS, order, limits=self.limits)
        if result.timed_out:
            raise ToolError(f"timed out after {self.limits.wall_s:g} s")
        if result.truncated or result.exit_code != 0:
            raise ToolError("the result is too large; ask for fewer or shorter values")
        answer = json.loads(result.stdout)
        if "fault" in answer:
            raise ValueError(f"the task's database cannot be built: {answer['fault']}")
        if "error" in answer:
            raise ToolError(answer["error"])
        if self.may_change and not _is_reading(query):
            self._changes.append(query)
        return self._shown(answer)

    def _shown(self, answer: Mapping[str, Any]) -> str:
        if not answer["names"]:
            return f"ok; {answer['changed']} rows changed"
        rows = [" | ".join(row) for row in answer["rows"][: self.max_rows]]
        more = [f"(only the first {self.max_rows} rows)"] if len(answer["rows"]) > self.max_rows else []
        return "\n".join([" | ".join(answer["names"]), *rows, *(more or ([] if rows else ["(no rows)"]))])


def _is_reading(query: str) -> bool:
    return query.lstrip().partition(" ")[0].lower() == "select"


def script_of(value: Any, column: str, task_id: str) -> str:
    """Return the script of a task's database.

    Raises:
        ValueError: The column holds none.
    """
    script = value.get("schema") if isinstance(value, Mapping) else value
    if isinstance(script, list):
        script = script[0] if script else None
    if not isinstance(script, str) or not script.strip():
        raise ValueError(
            f"column '{column}' of task {task_id} has no database; it must be an SQL script, or a mapping with 'schema'"
        )
    return script
