import json
from pathlib import Path

from harness import words

from rft.data.training_rows import READERS
from rft.types import Split


def test_a_worked_answer_is_that_of_the_embedded_demonstrations() -> None:
    lines = (words.TASKS / "demonstrations.jsonl").read_text(encoding="utf-8").splitlines()
    assert [words.worked(json.loads(line)) for line in lines] == [json.loads(line)["completion"] for line in lines]


def test_written_words_are_read_as_demonstrations(tmp_path: Path) -> None:
    items = words.embedded("validation")[:5]
    file = words.write(tmp_path / "rows.jsonl", items, ask=words.short_question, with_answers=True)
    rows = READERS["demonstrations"](
        str(file), key="data.train", split=Split.TRAIN, columns={}, system=None, format="chat"
    )
    spelled = [item["metadata"]["word"] for item in items]
    assert [row.messages[0]["content"] for row in rows] == [f"Spell this word backward: {word}" for word in spelled]
