"""Rows to tasks, and a sentence for each way in which a row can be wrong."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rft.data.messages import BadRow
from rft.data.tasks import read_tasks, to_task
from rft.errors import DataError
from rft.types import Split, Task

USER = {"role": "user", "content": "2 + 2 ="}


def read(folder: Path, *rows: Any, columns: Mapping[str, str] | None = None, system: str | None = None) -> list[Task]:
    path = folder / "tasks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_tasks(str(path), key="data.train", split=Split.TRAIN, columns=columns or {}, system=system)


def findings(folder: Path, *rows: Any, columns: Mapping[str, str] | None = None) -> list[str]:
    """What is wrong with the rows, the folder left out of the sentences."""
    with pytest.raises(DataError) as caught:
        read(folder, *rows, columns=columns)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_a_prompt_is_one_user_message_and_other_columns_are_the_item(tmp_path: Path) -> None:
    row = {"prompt": "2 + 2 =", "answer": {"value": 4, "unit": None}, "id": 17, "tools": [{"type": "function"}]}
    assert read(tmp_path, row) == [
        Task(
            id="17",
            messages=(USER,),
            item={"answer": {"value": 4, "unit": None}, "id": 17, "tools": [{"type": "function"}]},
            split=Split.TRAIN,
        )
    ]


@pytest.mark.parametrize("column", ["prompt", "messages"])
def test_a_chat_may_be_in_either_column(tmp_path: Path, column: str) -> None:
    chat = [{"role": "developer", "content": "Be brief."}, USER]
    (task,) = read(tmp_path, {column: chat})
    assert task.messages == tuple(chat)


def test_messages_come_into_one_form(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    answer = {"role": "tool", "content": "4", "tool_call_id": "1", "name": None}
    (task,) = read(tmp_path, {"messages": [{"role": "user", "content": parts}, call, answer], "prompt": None})
    assert task.messages == (
        {"role": "user", "content": "one\ntwo"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    )


def test_system_goes_first_unless_there_is_one(tmp_path: Path) -> None:
    own = [{"role": "system", "content": "Own."}, USER]
    plain, with_own = read(tmp_path, {"messages": [USER]}, {"messages": own}, system="Be brief.")
    assert plain.messages == ({"role": "system", "content": "Be brief."}, USER)
    assert with_own.messages == tuple(own)


def test_columns_are_renamed(tmp_path: Path) -> None:
    row = {"question": "2 + 2 =", "solution": "4", "level": 1}
    (task,) = read(tmp_path, row, columns={"prompt": "question", "answer": "solution"})
    assert task.messages == (USER,)
    assert task.item == {"answer": "4", "level": 1}


def test_columns_may_swap_names(tmp_path: Path) -> None:
    (task,) = read(tmp_path, {"prompt": "4", "answer": "2 + 2 ="}, columns={"prompt": "answer", "answer": "prompt"})
    assert task.messages == (USER,)
    assert task.item == {"answer": "4"}


def test_an_id_comes_from_content_alone(tmp_path: Path) -> None:
    (task,) = read(tmp_path, {"prompt": "2 + 2 =", "answer": "4", "level": 1})
    # printf '%s' '{"item":{"answer":"4","level":1},"messages":[{"content":"2 + 2 =","role":"user"}]}' | sha256sum
    assert task.id == "36cd70ff2e475037"
    (same,) = read(tmp_path, {"level": 1, "answer": "4", "messages": [USER]}, system="Be brief.")
    assert same.id == task.id
    (other,) = read(tmp_path, {"prompt": "2 + 2 =", "answer": "5", "level": 1})
    assert other.id != task.id


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ([1], 'not a JSON object but a list; each line must be an object with "messages" or "prompt"'),
        ("a", "not a JSON object but a string"),
        (None, "not a JSON object but null"),
        (
            {"answer": "4", "question": "2 + 2 ="},
            'neither "messages" nor "prompt"; it has: answer, question (map one with data.columns.prompt=question)',
        ),
        ({"id": "a", "intro": "hi", "n": 1}, "it has: id, intro, n (map one with data.columns.prompt=intro)"),
        ({"n": 1}, "it has: n (map one with data.columns.prompt=<column>)"),
        ({}, 'neither "messages" nor "prompt"; it has: no columns'),
        ({"prompt": "a", "messages": [USER]}, 'both "messages" and "prompt"; rename the unused one'),
        ({"prompt": " \n"}, '"prompt" is empty: the user\'s last message has no text'),
        ({"prompt": 4}, '"prompt" must be a list of {"role", "content"} or a string, not a number'),
        ({"messages": "a"}, '"messages" must be a list of {"role", "content"}, not a string'),
        ({"messages": []}, '"messages" is empty; it needs at least one user message'),
        ({"messages": ["a"]}, '"messages"[0] must be an object with "role" and "content", not a string'),
        (
            {"messages": [{"role": "human", "content": "a"}]},
            '"messages"[0] has the role "human"; allowed: system, developer, user, assistant, tool',
        ),
        ({"messages": [{"content": "a"}]}, '"messages"[0] has the role null; allowed: '),
        ({"messages": [{"role": ["user"], "content": "a"}]}, '"messages"[0] has the role ["user"]; allowed: '),
        ({"messages": [{"role": "user"}]}, '"messages"[0].content must be a string or a list of text parts, not null'),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            '"messages"[0].content[0] must be {"type": "text", "text": "..."}; images',
        ),
        ({"messages": [USER, {"role": "assistant", "content": "4"}]}, "ends with the assistant's message; remove it"),
        ({"prompt": None, "answer": "4"}, '"prompt" is null; set a text, or remove the row'),
        ({"messages": None, "answer": "4"}, '"messages" is null; set'),
        ({"prompt": "a", "id": ""}, '"id" must be a non-empty string or an integer, not ""'),
        ({"prompt": "a", "id": 1.5}, '"id" must be a non-empty string or an integer, not 1.5'),
        ({"prompt": "a", "id": True}, '"id" must be a non-empty string or an integer, not true'),
    ],
)
def test_a_bad_row_is_a_finding(tmp_path: Path, row: Any, problem: str) -> None:
    (finding,) = findings(tmp_path, {"prompt": "good"}, row)
    assert finding.startswith("tasks.jsonl:2: ")
    assert problem in finding


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"answer": "4"}, 'no column "question" (data.columns.prompt=question); it has: answer'),
        ({"question": "a", "prompt": "b"}, 'data.columns.prompt=question would hide the existing column "prompt"'),
    ],
)
def test_a_mapped_column_must_fit(tmp_path: Path, row: Any, problem: str) -> None:
    (finding,) = findings(tmp_path, row, columns={"prompt": "question"})
    assert finding.startswith(f"tasks.jsonl:1: {problem}")


def test_repetitions_name_both_lines(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "id": 1}, {"prompt": "b", "id": "1"}, {"prompt": "c"}, {"prompt": "c"}]
    assert findings(tmp_path, *rows, {"prompt": "c"}) == [
        'tasks.jsonl:2: tasks.jsonl:1 has the same id "1"; make ids unique, or remove them',
        "2 rows, first at tasks.jsonl:4: the same row as tasks.jsonl:3; remove one of them",
    ]
    assert findings(tmp_path, {"prompt": "a", "id": 1}, {"prompt": "a", "id": 2}) == [
        "tasks.jsonl:2: the same row as tasks.jsonl:1; remove one of them"
    ]


def test_one_prompt_may_have_several_answers(tmp_path: Path) -> None:
    assert len(read(tmp_path, {"prompt": "a", "answer": "1"}, {"prompt": "a", "answer": "2"})) == 2


def test_rows_with_the_same_flaw_share_a_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"prompt": 1 "b"}\n' + "[]\n" * 22 + '{\n{"prompt": 12, "b" 2}\n')
    with pytest.raises(DataError) as caught:
        read_tasks(str(path), key="data.train", split=Split.TRAIN, columns={}, system=None)
    assert caught.value.problems == (
        f"{path}:1: invalid JSON: Expecting ',' delimiter at column 14",
        f'22 rows, first at {path}:2: not a JSON object but a list; each line must be an object with "messages" or '
        '"prompt"',
        f"{path}:24: invalid JSON: Expecting property name enclosed in double quotes at column 2",
        f"{path}:25: invalid JSON: Expecting ':' delimiter at column 20",
    )


def test_the_same_flaw_about_other_values_is_the_same_flaw(tmp_path: Path) -> None:
    rows = [{"prompt": "a"}, *({"messages": [USER, {"role": role, "content": ""}]} for role in ("bot", "human"))]
    (finding,) = findings(tmp_path, *rows)
    assert finding.startswith('2 rows, first at tasks.jsonl:2: "messages"[1] has the role "bot"; allowed: system,')


def test_flaws_are_not_shown_endlessly(tmp_path: Path) -> None:
    shown = findings(tmp_path, *({f"column{chr(97 + number)}": 1} for number in range(23)))
    assert len(shown) == 21
    assert shown[20] == "tasks.jsonl: and 3 more flaws of other kinds"


def test_an_empty_file(tmp_path: Path) -> None:
    assert findings(tmp_path) == ["data.train=tasks.jsonl is empty: it contains no task"]


def test_half_a_character_is_named_with_its_line(tmp_path: Path) -> None:
    half, other = "\ud83d", "\ude00"
    rows = [
        {"prompt": "whole \U0001f600"},
        {"prompt": f"cut {half}"},
        {"messages": [{"role": "user", "content": other}]},
    ]
    advice = "the text was probably cut inside an emoji; complete or remove the emoji"
    assert findings(tmp_path, *rows) == [
        f'tasks.jsonl:2: "prompt" has half a surrogate pair, \\ud83d at position 5 of "cut \\ud83d"...; {advice}',
        f'tasks.jsonl:3: "messages" has half a surrogate pair, \\ude00 at position 1 of "\\ude00"...; {advice}',
    ]


def test_raw_prompts_are_texts(tmp_path: Path) -> None:
    rows: list[Any] = [{"prompt": "1 + 1 ="}, {"messages": [USER]}, {"prompt": [USER]}]
    findings = []
    for row in rows:
        try:
            findings.append(to_task(row, split=Split.TRAIN, system=None, format="raw").messages)
        except BadRow as error:
            findings.append(str(error))
    said = 'is a chat, and data.format=raw sends a text without a chat template; write the text into "prompt", or use'
    assert findings == [
        ({"role": "user", "content": "1 + 1 ="},),
        f'"messages" {said} data.format=chat',
        f'"prompt" {said} data.format=chat',
    ]
