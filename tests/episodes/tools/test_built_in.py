"""The built-in tools: what they answer, what they refuse, and what cannot be reached through them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from rft.config.tools import ToolConfig
from rft.data.tool_calls import ToolCall
from rft.episodes.contract import LoadedEnvironment, Reply
from rft.episodes.tools.built_in.calculator import calculate
from rft.episodes.tools.built_in.cells import PythonCells
from rft.episodes.tools.built_in.database import Database, script_of
from rft.episodes.tools.built_in.workspace import Workspace
from rft.episodes.tools.loading import load_tools
from rft.episodes.tools.tool import ToolError, ToolFault
from rft.grading.sandbox import Limits, Sandbox, SandboxError
from rft.types import Split, Task

LIMITS = Limits(wall_s=30.0)


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(allow_unsafe=True)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("523 + 184", "707"),
        ("2 \u00d7 (3 \u2212 1) \u00f7 8", "0.5"),
        ("0.1 + 0.2", "0.3"),
        ("1/3 + 2/3", "1"),
        ("2^10 - 2**10", "0"),
        ("-2**2", "-4"),
        ("-7 // 2", "-4"),
        ("7 % 3", "1"),
        ("10**30 + 1", "1000000000000000000000000000001"),
        ("sqrt(2)", "1.41421356237"),
        ("max(1, 2) + min(3, 4) + abs(-5)", "10"),
        ("round(2.567, 2)", "2.57"),
        ("floor(2.5) + ceil(2.5)", "5"),
    ],
)
def test_calculator(expression: str, value: str) -> None:
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "reason"),
    [
        ("1 / (2 - 2)", "division by zero"),
        ("0 ** -1", "division by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("10 ** 400 * 10 ** 400 * 10 ** 600", "too large"),
        ("sqrt(-1)", "negative"),
        ("__import__('os')", "there is no function __import__"),
        ("x + 1", "x has no value"),
        ("'a' * 3", "no arithmetic"),
        ("().__class__", "no arithmetic"),
        ("True", "no arithmetic"),
        ("1,234", "no arithmetic"),
        ("", "no arithmetic"),
        ("(" * 400 + ")" * 400, "arithmetic|parentheses"),
        ("1" * 2000, "at most 1000"),
        ("sqrt()", "argument"),
    ],
)
def test_calculator_refuses(expression: str, reason: str) -> None:
    with pytest.raises(ToolError, match=reason):
        calculate(expression)


def run(cells: PythonCells, *codes: str) -> list[str]:
    """The output of each cell, or its error."""

    async def each(code: str) -> str:
        try:
            return await cells.run(code)
        except ToolError as error:
            return f"error: {error}"

    async def all_of_them() -> list[str]:
        return [await each(code) for code in codes]

    return asyncio.run(all_of_them())


def test_a_cell_prints_and_shows_its_last_expression(sandbox: Sandbox) -> None:
    outputs = run(PythonCells(sandbox, LIMITS), "x = 3\nprint('a')\nx + 1", "x", "y = (", "raise SystemExit", "input()")
    assert outputs[0] == "a\n4\n"
    assert outputs[1] == 'Traceback (most recent call last):\n  File "<cell 1>", line 1, in <module>\n    x\n' + (
        "NameError: name 'x' is not defined\n"
    )
    assert outputs[2].endswith("SyntaxError: '(' was never closed\n") and "ast.py" not in outputs[2]
    assert outputs[3] == ""
    assert outputs[4].endswith("EOFError: EOF when reading a line\n")


def test_cells_that_keep_their_state(sandbox: Sandbox) -> None:
    """Earlier cells run again without their output, up to an exception; a cell that was stopped is forgotten."""
    cells = PythonCells(sandbox, Limits(wall_s=30.0, output_bytes=1000), keeps_state=True)
    outputs = run(cells, "x = [1]\nprint('once')", "x.append(2)\n1/0\nx.append(3)", "print('z' * 5000)", "x")
    assert outputs[0] == "once\n"
    assert outputs[1].endswith("ZeroDivisionError: division by zero\n")
    assert outputs[2] == "error: stopped: it printed more than 1000 bytes; the names of this cell are not kept"
    assert outputs[3] == "[1, 2]\n"


def test_a_cell_that_hangs_or_ends_the_process(sandbox: Sandbox) -> None:
    assert run(PythonCells(sandbox, Limits(wall_s=0.5)), "while True: pass") == ["error: timed out after 0.5 s"]
    outputs = run(PythonCells(sandbox, LIMITS), "import os; os._exit(3)", "#" * 200_000)
    assert outputs[0] == "error: the process ended with exit code 3"
    assert "at most 100000 are allowed" in outputs[1]


def test_a_cell_finds_no_reference(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface/Repo2RLEnv#144: the answer lay where the policy's code could read it.

    The process that runs the code has neither this process's memory nor its environment nor its files.
    """
    if sandbox.rung == 0:
        pytest.skip("this machine has no walls")
    monkeypatch.setenv("REFERENCE", "the-answer-6174")
    search = """
import os, glob
found = [str(dict(os.environ))]
for path in [f"/proc/{os.getppid()}/mem", f"/proc/{os.getppid()}/environ", f"/proc/{os.getppid()}/cmdline", %r]:
    try:
        found.append(open(path, 'rb').read(1 << 20).decode(errors='replace'))
    except Exception as error:
        found.append(type(error).__name__)
print(found)
"""
    (output,) = run(PythonCells(sandbox, LIMITS), search % __file__)
    assert "Error" in output and "6174" not in output


SCRIPT = "CREATE TABLE city (name TEXT, size INT); INSERT INTO city VALUES ('Rome', 3), ('Bonn', NULL), ('Oslo', 1);"


def ask(database: Database, *queries: str) -> list[str]:
    async def each(query: str) -> str:
        try:
            return await database.query(query)
        except ToolError as error:
            return f"error: {error}"

    async def all_of_them() -> list[str]:
        return [await each(query) for query in queries]

    return asyncio.run(all_of_them())


def test_queries(sandbox: Sandbox) -> None:
    answers = ask(
        Database(SCRIPT, sandbox, LIMITS, max_rows=2),
        "SELECT name, size FROM city WHERE size IS NULL",
        "SELECT name FROM city ORDER BY name",
        "SELECT name FROM city WHERE size > 9",
        "DELETE FROM city",
        "SELECT missing",
        "SELECT 1; SELECT 2",
        "SELECT zeroblob(2000000000)",
        "SELECT '" + "x" * 30_000 + "'",
    )
    assert answers[:6] == [
        "name | size\nBonn | NULL",
        "name\nBonn\nOslo\n(only the first 2 rows)",
        "name\n(no rows)",
        "error: attempt to write a readonly database",
        "error: no such column: missing",
        "error: You can only execute one statement at a time.",
    ]
    assert answers[6].startswith("error: ") and "at most 20000 are allowed" in answers[7]


def test_changes_stay_for_the_episode(sandbox: Sandbox) -> None:
    first, second = (Database(SCRIPT, sandbox, LIMITS, may_change=True) for _ in range(2))
    count = "SELECT count(*) AS n FROM city"
    answers = ask(first, "DELETE FROM city WHERE size = 1", "DELETE FROM nowhere", count)
    assert answers == ["ok; 1 rows changed", "error: no such table: nowhere", "n\n2"]
    assert ask(second, count) == ["n\n3"]


def test_a_statement_that_succeeds_only_once_is_the_policys_fault(sandbox: Sandbox) -> None:
    database = Database(SCRIPT, sandbox, LIMITS, may_change=True)
    database._changes.append("DELETE FROM nowhere")  # such as an insertion of random numbers that once are unique
    [answer] = ask(database, "SELECT 1")
    assert answer.startswith("error: an earlier statement, which every call makes again, does not succeed each time")


def test_a_query_without_end_is_the_policys_fault(sandbox: Sandbox) -> None:
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
    assert ask(Database(SCRIPT, sandbox, Limits(wall_s=0.5)), endless) == ["error: timed out after 0.5 s"]


def test_a_database_that_cannot_be_built_is_the_tasks_fault(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="the task's database cannot be built"):
        ask(Database("CREATE", sandbox, LIMITS), "SELECT 1")


@pytest.mark.parametrize(
    "value", [SCRIPT, {"schema": SCRIPT, "query": "SELECT 'the answer'"}, {"schema": [SCRIPT, ""]}]
)
def test_only_the_script_enters_the_sandbox(value: Any) -> None:
    assert script_of(value, "sql", "t") == SCRIPT


@pytest.mark.parametrize("value", [None, "", 3, [], {"query": "SELECT 1"}, {"schema": []}])
def test_a_task_without_a_database(value: Any) -> None:
    with pytest.raises(ValueError, match="column 'sql' of task t has no database"):
        script_of(value, "sql", "t")


def test_files_of_one_episode() -> None:
    files = Workspace(max_files=2, max_bytes=10)
    assert files.list() == "(no files)"
    assert files.write("notes/a.txt", "für") == "wrote 4 bytes to notes/a.txt"
    assert files.write("./b.txt", "12") == "wrote 2 bytes to b.txt"
    assert files.write("b.txt", "123456") == "wrote 6 bytes to b.txt"
    assert files.read("notes/a.txt") == "für"
    assert files.list() == "b.txt (6 bytes)\nnotes/a.txt (4 bytes)"
    for path, text, reason in [
        ("c", "", "2 files already"),
        ("b.txt", "1234567", "may have 10 bytes; 6 are left"),
        ("../b.txt", "", "no path"),
        ("/etc/passwd", "", "no path"),
        ("", "", "no path"),
        ("a\0b", "", "no path"),
        ("x" * 300, "", "no path"),
    ]:
        with pytest.raises(ToolError, match=reason):
            files.write(path, text)
    assert files.delete("b.txt") == "deleted b.txt"
    with pytest.raises(ToolError, match=r"notes/a\.txt exists, so notes cannot be a file"):
        files.write("notes", "")
    with pytest.raises(ToolError, match=r"there is no file b\.txt; the files are:\nnotes/a\.txt"):
        files.read("b.txt")


def test_files_that_a_task_begins_with() -> None:
    files = Workspace(max_files=2, max_bytes=10)
    files.fill({"a.txt": "1"}, "files", "t")
    assert files.read("a.txt") == "1"
    for wrong, reason in [
        ("text", "is no mapping"),
        ({"a": 3}, "is no mapping"),
        ({"b": "x" * 20}, "may have 10 bytes"),
    ]:
        with pytest.raises(ValueError, match=f"column 'files' of task t.*{reason}"):
            files.fill(wrong, "files", "t")


def load(**entries: Any) -> LoadedEnvironment:
    return load_tools({name: ToolConfig(**entry) for name, entry in entries.items()}, max_invalid_calls=3)


def play(environment: LoadedEnvironment, item: dict[str, Any], *turns: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """What the policy hears if it makes these calls, turn by turn."""
    heard: list[str] = []
    calls = iter([*turns, []])

    async def policy(said: Any = None) -> Reply:
        heard.extend(message["content"] for message in said or ())
        made = [ToolCall(id=f"c{n}", name=name, arguments=given) for n, (name, given) in enumerate(next(calls))]
        return Reply(text="", stop="stop", calls=tuple(made))

    task = Task(id="t", messages=(), item=item, split=Split.TRAIN)
    asyncio.run(environment.call(task=task, policy=policy, seed=0))
    return heard


def test_the_built_in_tools_in_an_episode() -> None:
    unsafe = {"allow_unsafe": True, "seconds": 20}
    environment = load(
        calc={"use": "calculator"},
        py={"use": "python", "options": {"keep_state": True, **unsafe}},
        db={"use": "sql", "options": {"column": "base", **unsafe}},
        notes={"use": "files", "options": {"column": "files"}},
    )
    names = [tool["function"]["name"] for tool in environment.tools]
    assert names == ["calc", "py", "db", "list_files", "read_file", "write_file", "delete_file"]
    assert environment.tools[0]["function"]["parameters"]["required"] == ["expression"]
    item = {"base": {"schema": SCRIPT, "query": "SELECT 'secret'"}, "files": {"a.txt": "given"}}
    turns = [
        [("calc", {"expression": "2 + 3"}), ("py", {"code": "x = 5"}), ("read_file", {"path": "a.txt"})],
        [("py", {"code": "x * 2"}), ("db", {"query": "SELECT max(size) AS m FROM city"}), ("calc", {"text": "1"})],
    ]
    heard = play(environment, item, *turns)
    assert heard[:5] == ["5", "", "given", "10\n", "m\n3"] and heard[5].startswith("error: wrong arguments for calc")
    assert play(environment, item, [("py", {"code": "x"})])[0].endswith("NameError: name 'x' is not defined\n")
    with pytest.raises(ToolFault, match="tool db: ValueError: column 'base' of task t has no database"):
        play(environment, {}, [])
    with pytest.raises(ValueError, match=r"^tools\.db: column 'base' of task t has no database"):
        for require in environment.requires:
            require(Task(id="t", messages=(), item={}, split=Split.TRAIN))


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"use": "calculater"}, r"tools\.t: there is no tool 'calculater' \(did you mean 'calculator'\?\); rft has"),
        ({"use": "calculator", "options": {"digits": 3}}, r"tools\.t: options\.digits: .*; it has none"),
        (
            {"use": "python", "options": {"seconds": "long"}},
            r"options\.seconds: should be a number; the options of python",
        ),
        (
            {"use": "python", "options": {"seconds": 60}},
            r"options\.seconds=60 must be at least 2 s below timeout_s=30; raise timeout_s",
        ),
        ({"use": "files", "options": {"max_files": 0}}, r"options\.max_files: should be at least 1"),
    ],
)
def test_wrong_entries(entry: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load(t=entry)


def test_a_machine_without_walls(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> None:
        raise SandboxError("programs would run without walls")

    monkeypatch.setattr("rft.episodes.tools.built_in.base.Sandbox", none)
    with pytest.raises(ValueError, match=r"tools\.py: programs would run without walls\ntools\.db: programs would"):
        load(py={"use": "python"}, calc={"use": "calculator"}, db={"use": "sql"})
