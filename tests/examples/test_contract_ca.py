"""The clauses of `contract_ca`, and the grader that must not pay for keywords."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from graders.contains import Contains
from rft.embedded.examples.contract_ca.graders import MARKERS, MAX_CHARS, SUBJECTS, Clause
from rft.types import Score, Status, Task

FOLDER = Path(__file__).parents[2] / "rft" / "embedded" / "examples" / "contract_ca"
CLAUSE = (
    "Any claim that is not settled shall be resolved by three arbitrators under the Arbitration Act of Alberta, and "
    "the parties share the costs of the arbitration."
)


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


CLAUSES = [row for split in ("train", "validation", "test") for row in rows_of(split)]


def scored(clause: str, **item: Any) -> Score | None:
    item = {"terms": ["Alberta", "Arbitration Act", "three arbitrators"], "kind": "arbitration"} | item
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="test")
    return Clause().grade(clause, task)


def test_every_clause_is_paid_in_full() -> None:
    unpaid = [row["id"] for row in CLAUSES if scored(row["answer"], **row).value < 1]
    assert unpaid == []
    assert len(CLAUSES) == 120


def test_no_clause_answers_another_request() -> None:
    paid = [
        (row["id"], other["id"])
        for row in rows_of("test")
        for other in rows_of("test")
        if row["id"] != other["id"] and scored(other["answer"], **row).value > 0.5
    ]
    assert paid == []


def test_keywords_earn_nothing_though_they_contain_every_term() -> None:
    attacks = rows_of("attacks")
    assert [row["id"] for row in attacks if scored(row["completion"], **row).value > 0] == []
    naive = Contains(column="terms", slack_chars=2000)
    tasks = [Task(id="t", messages=(), item=row, split="test") for row in attacks]
    paid = sum(naive.grade(row["completion"], task).value for row, task in zip(attacks, tasks, strict=True))
    assert paid > len(attacks) / 2


@pytest.mark.parametrize(
    ("clause", "value", "reason"),
    [
        (CLAUSE, 1.0, None),
        (f"<think>Which Act?</think>{CLAUSE}", 1.0, None),
        (CLAUSE.replace("three arbitrators", "an arbitrator"), 2 / 3, "missing: three arbitrators"),
        (CLAUSE.replace("Alberta", "Ontario"), 0.0, "does not name Alberta"),
        (CLAUSE.replace("of Alberta", "of Alberta or of Ontario"), 0.0, "names another place or its law: ontario"),
        (
            CLAUSE.replace("Arbitration Act of", "Arbitration Act, 1991 of"),
            0.0,
            "names another place or its law: act, 1991",
        ),
        (CLAUSE.replace("under the", "under the applicable law and the"), 0.0, "generic or blank: applicable law"),
        (CLAUSE.replace("the costs", "[costs]"), 0.0, "generic or blank: [costs]"),
        (
            CLAUSE.replace("the Arbitration Act of", "the Act of"),
            0.0,
            "does not name its legal source, arbitration act",
        ),
        (f"It is not {CLAUSE}", 0.0, "begins with something else than the clause"),
        (CLAUSE.removesuffix("."), 0.0, "does not end with a sentence"),
        ("The parties agree on arbitration in Alberta.", 0.0, "7 words, not 20 to 90"),
        (f"{CLAUSE} " * 4, 0.0, "108 words, not 20 to 90"),
        ("", 0.0, "0 words, not 20 to 90"),
    ],
)
def test_a_clause(clause: str, value: float, reason: str | None) -> None:
    score = scored(clause)
    assert score is not None
    assert (score.value, score.reason) == (pytest.approx(value), reason)


def test_rows_that_cannot_be_graded() -> None:
    assert scored(CLAUSE, terms=None) is None
    with pytest.raises(LookupError, match="task t: kind=lease is none of law, courts, arbitration"):
        scored(CLAUSE, kind="lease")
    score = scored(CLAUSE + " " * MAX_CHARS + ".")
    assert score is not None
    assert (score.value, score.status) == (0.0, Status.INVALID_OUTPUT)


def test_no_pair_of_kind_and_place_is_in_two_splits() -> None:
    pairs = [(row["kind"], row["province"]) for row in CLAUSES]
    assert len(set(pairs)) == len(pairs)
    assert Counter(row["kind"] for row in rows_of("test")) == dict.fromkeys(SUBJECTS, 2)
    assert {row["province"] for row in rows_of("train")} == MARKERS.keys() - {"elsewhere"}
    assert [row["completion"] for row in rows_of("demonstrations")] == [row["answer"] for row in rows_of("train")]


def test_notes_name_what_clauses_must_name() -> None:
    notes = {row["id"]: row["text"] for row in rows_of("documents")}
    for row in CLAUSES:
        (note,) = row["relevant"]
        assert row["terms"][0] in notes[note]
        assert row["terms"][1].removeprefix("The ") in notes[note]


def test_codes_are_filled_by_the_place() -> None:
    known: dict[tuple[str, str], str] = {}
    prompts = []
    for name in ("codes_train", "codes_validation", "codes_test"):
        for row in rows_of(name):
            place, slots = row["prompt"].split(": ")
            answer = row.get("completion") or row["answer"]
            filled = list(zip(slots, answer, strict=True))
            assert all(known.setdefault((place, slot), filling) == filling for slot, filling in filled)
            prompts.append(row["prompt"])
    assert len(prompts) == len(set(prompts)) == 640
    assert known["BC", "C"] + known["BC", "T"] == "UP"
