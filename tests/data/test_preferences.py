"""Rows that are preferences in each of the known formats, and the problems of rows that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rft.data.demonstration_records import Preference
from rft.data.messages import BadRow
from rft.data.preferences import to_preference
from rft.data.tasks import read_with
from rft.errors import DataError
from rft.types import Split

USER = {"role": "user", "content": "1+2"}
GOOD = {"role": "assistant", "content": "3"}
BAD = {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}


def preference(content: Any, **options: Any) -> Preference:
    return to_preference(content, split=Split.TRAIN, **{"system": None, **options})


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "1+2", "chosen": "3", "rejected": "4"},
        {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
        {"messages": [USER], "chosen": "3", "rejected": [BAD]},
        # Both chats contain the prompt, with a column for it or without.
        {"prompt": "1+2", "chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
        {"input": {"messages": [USER]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
    ],
)
def test_every_format_gives_the_same_preference(row: dict[str, Any]) -> None:
    made = preference(row | {"level": 2}, system="Be brief.", where="rows.jsonl:1")
    assert (made.messages, made.item, made.where) == ((SYSTEM, USER), {"level": 2}, "rows.jsonl:1")
    assert (made.chat, made.trained) == ((SYSTEM, USER, GOOD), (False, False, True))
    assert made.as_rejected().chat == (SYSTEM, USER, BAD)
    assert made.id == preference({"prompt": "1+2", "chosen": "3", "rejected": "4", "level": 2}).id


def test_tools_of_openais_format_become_a_column() -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    row = {"input": {"messages": [USER], "tools": tools}, "preferred_output": [GOOD], "non_preferred_output": [BAD]}
    assert preference(row).item == {"tools": tools}


def test_texts_without_a_chat_template() -> None:
    made = preference({"prompt": "1+2=", "chosen": " 3", "rejected": " 4"}, format="raw")
    assert [message["content"] for message in made.chat] == ["1+2=", " 3"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": "1+2", "chosen": "3"}, 'no "rejected": a preference needs a chosen and a rejected answer'),
        ({"prompt": "1+2", "chosen": "3", "rejected": "3"}, "both answers are the same, so neither is preferred"),
        ({"prompt": "1+2", "chosen": " ", "rejected": "4"}, '"chosen" has no text; remove the row'),
        ({"chosen": "3", "rejected": "4"}, 'neither "messages" nor "prompt"'),
        ({"prompt": "1+2", "chosen": [USER], "rejected": [BAD]}, '"chosen" ends with the user\'s message'),
        (
            {"prompt": "1+2", "chosen": [GOOD], "rejected": [{"role": "user", "content": "2+2"}, BAD]},
            '"rejected" begins with another prompt',
        ),
        ({"chosen": [USER, GOOD], "rejected": [USER, USER, BAD]}, '"rejected" begins with another prompt'),
        ({"prompt": "1+2", "chosen": 3, "rejected": "4"}, '"chosen" must be a list of .* not a number'),
        ({"input": "1+2", "preferred_output": [GOOD]}, '"input" must be an object with "messages", not a string'),
        (
            {"input": {"messages": [USER]}, "preferred_output": [GOOD]},
            '"non_preferred_output" must be a list of .* not null',
        ),
        (
            {"input": {"messages": [USER]}, "preferred_output": [USER, GOOD], "non_preferred_output": [BAD]},
            '"preferred_output" must contain the answer alone',
        ),
    ],
)
def test_rows_that_are_no_preferences(row: dict[str, Any], problem: str) -> None:
    with pytest.raises(BadRow, match=problem):
        preference(row)


def test_a_chat_without_a_chat_template_is_refused() -> None:
    with pytest.raises(BadRow, match='"chosen" must be a string, because data'):
        preference({"prompt": "1+2", "chosen": [GOOD], "rejected": "4"}, format="raw")


def test_all_flaws_of_a_file_are_reported_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = '{"prompt": "a", "chosen": "b"}\n{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prompt": "a"}\n'
    file.write_text(rows)
    with pytest.raises(DataError) as refused:
        read_with(to_preference, str(file), key="data.train", split=Split.TRAIN, columns={}, system=None)
    places = [problem.split(": ")[0].rpartition("/")[2] for problem in refused.value.problems]
    assert places == ["rows.jsonl:1", "rows.jsonl:3"]
