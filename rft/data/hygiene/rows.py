"""Reads task files and demonstrations as texts to compare: prompt, answer, and everything a row says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rft.data.files import Flaw
from rft.data.messages import BadRow, texts, to_chat
from rft.data.sources import read_rows
from rft.data.tasks import prompt_column, renamed
from rft.types import Split

ANSWERS = ("answer", "completion", "label")
"""Columns with the answer of a row, in order of preference; a chat that ends with the assistant contains its own."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DataRow:
    """A row of a task file, as texts.

    Example:
        DataRow(where="tasks.jsonl:3", split=Split.TRAIN, content={"prompt": "2 + 2 = ?", "answer": "4"},
                prompt="2 + 2 = ?", answer="4")
    """

    where: str
    """Source and line, from 1."""
    split: Split
    """Purpose of the row's file."""
    content: Mapping[str, Any]
    """The row as it was read."""
    prompt: str
    """What the user says, without the system message."""
    answer: str | None
    """The expected answer as a text; None if the row has none."""

    @property
    def text(self) -> str:
        """Everything that the row says, one text after another."""
        return "\n".join(texts(self.content))


def read_data_rows(
    source: str, *, key: str, split: Split, columns: Mapping[str, str]
) -> tuple[list[DataRow], list[Flaw]]:
    """Read a source, and return its rows and what could not be read.

    Args:
        source: See `rft.data.sources.read_rows`.
        key: The configuration key that names the source.
        split: The purpose of its rows.
        columns: Names of columns in the file, by rft's name: `prompt`, `messages` or `answer`.

    Raises:
        DataError: The source cannot be read at all.
    """
    rows: list[DataRow] = []
    flaws: list[Flaw] = []
    for row in read_rows(source, key=key):
        if isinstance(row, Flaw):
            flaws.append(row)
            continue
        try:
            prompt, answer = _texts_of(renamed(row.content, columns))
        except BadRow as error:
            flaws.append(Flaw(row.where, str(error)))
        else:
            rows.append(DataRow(where=row.where, split=split, content=row.content, prompt=prompt, answer=answer))
    return rows, flaws


def _texts_of(content: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return prompt and answer of a row with rft's names of columns.

    Raises:
        BadRow: The row has no prompt.
    """
    column = prompt_column(content)
    chat = to_chat(content[column], column=column)
    answer = next((content[name] for name in ANSWERS if content.get(name) is not None), None)
    if chat[-1]["role"] == "assistant":
        answer = chat[-1].get("content") or ""
        chat = chat[:-1]
    said = [str(message.get("content") or "") for message in chat if message["role"] not in ("system", "developer")]
    return "\n".join(said), None if answer is None else "\n".join(texts(answer)) or str(answer)
