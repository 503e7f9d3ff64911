"""Rows that are demonstrations, and what is said of those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from rft.data.demonstrations import to_demonstration
from rft.data.messages import BadRow
from rft.data.tasks import read_with
from rft.errors import DataError
from rft.types import Split

USER = {"role": "user", "content": "1+2"}
ANSWER = {"role": "assistant", "content": "3"}


def demonstration(content: Any, **options: Any) -> Any:
    return to_demonstration(content, split=Split.TRAIN, **{"system": None, **options})


def test_what_a_row_becomes() -> None:
    made = demonstration({"messages": [USER, ANSWER], "id": 7, "level": 2}, system="Be brief.", where="a.jsonl:1")
    system = {"role": "system", "content": "Be brief."}
    assert (made.id, made.item, made.where) == ("7", {"id": 7, "level": 2}, "a.jsonl:1")
    assert made.messages == (system, USER)
    assert made.chat == (system, USER, ANSWER)
    assert made.trained == (False, False, True)
    assert made.answer == "3"


def test_weights_choose_what_is_trained_and_are_not_part_of_the_chat() -> None:
    chat = [USER, ANSWER | {"weight": 0}, USER, ANSWER | {"weight": 1}]
    made = demonstration({"messages": chat})
    assert made.trained == (False, False, False, True)
    assert made.chat == (USER, ANSWER, USER, ANSWER)


def test_two_answers_to_one_prompt_are_two_demonstrations() -> None:
    ids = {demonstration({"prompt": "1+2", "completion": text}).id for text in ("3", "three")}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"prompt": "1+2"}, 'no "completion": a demonstration needs what the model should answer'),
        ({"messages": [USER]}, "\"messages\" ends with the user's message; a demonstration ends with the assistant's"),
        ({"messages": [ANSWER]}, "needs a prompt before it"),
        ({"messages": [USER, ANSWER | {"weight": 2}]}, r'"messages"\[1\]\.weight must be 0 or 1, not 2'),
        ({"messages": [USER | {"weight": 1}, ANSWER]}, "only the assistant's messages are trained"),
        ({"messages": [USER, ANSWER | {"weight": 0}]}, "so nothing is trained"),
        ({"messages": [USER, {"role": "assistant", "content": " "}]}, "has no text; remove the row"),
        ({"prompt": "1+2", "completion": " "}, '"completion" has no text; remove the row'),
        ({"prompt": "1+2", "completion": 3}, '"completion" must be a string, not a number'),
        ({"completion": "3"}, 'neither "messages" nor "prompt"'),
    ],
)
def test_rows_that_are_no_demonstrations(content: Any, said: str) -> None:
    with pytest.raises(BadRow, match=said):
        demonstration(content)


def test_all_flaws_of_a_file_are_reported_with_their_lines(tmp_path: Any) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c"}\n{"messages": []}\n')
    with pytest.raises(DataError) as refused:
        read_with(to_demonstration, str(file), key="data.train", split=Split.TRAIN, columns={}, system=None)
    assert [problem.split(": ")[0].rpartition("/")[2] for problem in refused.value.problems] == [
        "rows.jsonl:2",
        "rows.jsonl:3",
    ]
