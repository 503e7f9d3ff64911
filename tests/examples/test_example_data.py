"""The data of the examples is what its cards say, worked out here in another way."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

DATA = Path(__file__).parents[2] / "rft" / "embedded" / "examples"


def rows_of(name: str, split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("split", ["train", "validation", "test", "language_train", "language_test"])
def test_moods_are_balanced(split: str) -> None:
    rows = rows_of("sentiment", split)
    counts = Counter(row["answer"] for row in rows)
    assert counts == dict.fromkeys(("negative", "neutral", "positive"), len(rows) // 3)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_mood_is_the_sign_of_the_sum(split: str) -> None:
    for row in rows_of("sentiment", split):
        text = row["prompt"].removeprefix("Mood: ")
        total = sum({"+": 1, ".": 0, "-": -1}[sign] for sign in text)
        assert row["answer"] == ("positive" if total > 0 else "negative" if total < 0 else "neutral"), text


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_digits_after_a_sign_are_marked(split: str) -> None:
    for row in rows_of("ner", split):
        text = row["prompt"].removeprefix("Mark: ")
        assert row["answer"] == re.sub(r"@(\d+)", r"@[C \1]", re.sub(r"#(\d+)", r"#[N \1]", text))


@pytest.mark.parametrize("split", ["language_train", "language_validation", "language_test"])
def test_sentences_are_marked_in_place(split: str) -> None:
    rows = rows_of("ner", split)
    for row in rows:
        assert row["prompt"].endswith("Sentence: " + re.sub(r"\[(?:PER|ORG|LOC) ([^\]]+)\]", r"\1", row["answer"]))
    of_orange = [row["answer"] for row in rows if "orange" in row["answer"].casefold()]
    assert 0.2 < len(of_orange) / len(rows) < 0.5
    companies = [answer for answer in of_orange if "[ORG Orange]" in answer]
    assert companies
    assert len(companies) < len(of_orange)
