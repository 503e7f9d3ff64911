"""`rft data`: check, count, clean and split task files."""

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

Rft = Callable[..., tuple[int, str, str]]
FARM = "A farmer sells 12 baskets of ripe plums at the market and brings the other 30 baskets home."


def written(path: Path, rows: Iterable[Any]) -> str:
    """Write rows, and return the name of the file."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A training file with a leak, a duplicate, a mail address and a broken row, and a test file."""
    train = [
        {"question": FARM.replace("12", "15"), "label": "45"},
        {"question": "What is 2 + 2?", "label": "4"},
        {"question": "what is 2 + 2", "label": "4"},
        {"question": "Who is a@b.org?", "label": "me"},
        {"text": "no prompt"},
    ]
    test = [{"question": FARM, "label": "42"}]
    columns = ["columns.prompt=question", "columns.answer=label"]
    return [f"train={written(tmp_path / 'a.jsonl', train)}", f"test={written(tmp_path / 'b.jsonl', test)}", *columns]


def test_check(rft: Rft, files: list[str], tmp_path: Path) -> None:
    code, out, _ = rft("data", "check", *files, f"report={tmp_path}/report.json")
    assert code == 1
    assert "unreadable: 1 row cannot be used" in out and 'a.jsonl:5: no column "question"' in out
    assert "leakage: 1 row of train with a look-alike in test: 1 other numbers" in out
    assert "personal data: 1 row: 1 mail" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert [one["name"] for one in report if one["level"] == "error"] == ["unreadable", "leakage"]
    assert rft("data", "check", *files[1:])[0] == 0  # the test file alone


def test_stats_in_words_and_tokens(rft: Rft, files: list[str]) -> None:
    _, out, _ = rft("data", "stats", *files)
    assert "train: 4 rows, 4 prompts, 4 answers" in out
    assert "  prompt, words: min 4, median 4, p95 18, max 18" in out
    assert "1 rows cannot be used" in out


def test_clean_leaves_the_sources_alone(rft: Rft, files: list[str], tmp_path: Path) -> None:
    before = (tmp_path / "a.jsonl").read_bytes()
    code, out, _ = rft("data", "clean", *files, f"out={tmp_path}/clean", "licence=apache-2.0")
    assert code == 0 and "dropped.jsonl: 3 rows (3 of train)\n  1 leakage\n  1 duplicates\n  1 unreadable\n" in out
    kept = (tmp_path / "clean" / "train.jsonl").read_bytes()
    assert [json.loads(line)["question"] for line in kept.splitlines()] == ["What is 2 + 2?", "Who is [mail]?"]
    dropped = [json.loads(line) for line in (tmp_path / "clean" / "dropped.jsonl").read_text().splitlines()]
    assert [row["where"].partition("a.jsonl")[2] for row in dropped] == [":1", ":3", ":5"]
    card = json.loads((tmp_path / "clean" / "card.json").read_text())
    assert card["files"]["train.jsonl"] == {"rows": 2, "sha256": hashlib.sha256(kept).hexdigest()}
    assert card["licence"] == "apache-2.0" and card["masked"] == {"mail": 1} and card["dropped"]["rows"] == 3
    assert (tmp_path / "a.jsonl").read_bytes() == before
    code, _, error = rft("data", "clean", *files, f"out={tmp_path}/clean")
    assert code == 2 and "exists already" in error


@pytest.mark.parametrize("pii", ["mask", "drop", "keep"])
def test_personal_data_of_dropped_rows(rft: Rft, tmp_path: Path, pii: str) -> None:
    rows = [{"prompt": "Who is a@b.org?", "c": "a@b.org"}, {"prompt": "who is a@b.org"}, {"prompt": "One row more"}]
    source = written(tmp_path / "a.jsonl", rows)
    assert rft("data", "clean", f"train={source}", f"out={tmp_path}/clean", f"pii={pii}")[0] == 0
    text = (tmp_path / "clean" / "dropped.jsonl").read_text()
    assert ("a@b.org" in text) == (pii == "keep") and ("[mail]" in text) == (pii != "keep")


def test_what_cannot_be_read_or_written(rft: Rft, files: list[str], tmp_path: Path) -> None:
    empty = written(tmp_path / "empty.jsonl", [])
    for words in (["check"], ["clean", f"out={tmp_path}/clean"]):
        code, _, error = rft("data", *words, *files[1:], f"train={empty}")
        assert code == 2 and f"train={empty} has no rows" in error
    code, _, error = rft("data", "check", *files, f"report={tmp_path}/nowhere/x.json")
    assert code == 2 and f"the folder {tmp_path}/nowhere does not exist" in error
    code, _, error = rft("data", "clean", *files, f"out={tmp_path}/a.jsonl/x")
    assert code != 0 and f"{tmp_path}/a.jsonl/x cannot be written" in error
    assert not (tmp_path / "clean").exists()


def test_split_keeps_groups_and_lookalikes_together(rft: Rft, tmp_path: Path) -> None:
    rows = [{"prompt": f"Row {number}", "customer": number % 40} for number in range(400)]
    rows += [{"prompt": FARM.replace("12", str(number)), "customer": 100 + number} for number in range(4)]
    source = written(tmp_path / "rows.jsonl", rows)
    words = ["data", "split", f"data={source}", "test_share=0.3", "validation_share=0.1", "group_by=customer"]
    assert rft(*words, f"out={tmp_path}/one")[0] == 0
    parts = {
        name: [json.loads(line) for line in (tmp_path / "one" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("train", "validation", "test")
    }
    assert sum(map(len, parts.values())) == 404
    customers = [{row["customer"] for row in part if row["customer"] < 100} for part in parts.values()]
    assert sum(map(len, customers)) == 40  # none is in two parts
    assert sorted(sum(row["customer"] >= 100 for row in part) for part in parts.values()) == [0, 0, 4]
    assert rft(*words, f"out={tmp_path}/two")[0] == 0
    assert (tmp_path / "one" / "test.jsonl").read_bytes() == (tmp_path / "two" / "test.jsonl").read_bytes()
    source = written(tmp_path / "reversed.jsonl", rows[::-1])
    assert rft("data", "split", f"data={source}", *words[3:], f"out={tmp_path}/three")[0] == 0
    assert len((tmp_path / "three" / "test.jsonl").read_bytes()) == len((tmp_path / "one" / "test.jsonl").read_bytes())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check"], "no file is given"),
        (["chekc", "train=x.jsonl"], "no such action; there are rft data check, rft data stats"),
        (["check", "train=missing.jsonl"], "missing.jsonl"),
        (["check", "train=missing.jsonl", "max_context_tokens=9"], "name the model too"),
        (["split", "data=x.jsonl", "out=o", "test_share=0.9", "validation_share=0.2"], "must stay below 1"),
        (["clean", "train=x.jsonl"], "out"),
    ],
)
def test_wrong_words(rft: Rft, words: list[str], message: str) -> None:
    code, _, error = rft("data", *words)
    assert code == 2 and message in error
