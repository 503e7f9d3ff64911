"""The audit and the built-in graders agree with each other on competition maths: no false alarm, and none missed."""

import json
from pathlib import Path

import pytest

from rft.auditing.findings import Result
from rft.auditing.probes import free, judges, references, texts
from tests.auditing.conftest import make_tasks

ROWS = json.loads((Path(__file__).parent / "cases" / "competition.json").read_text(encoding="utf-8"))
"""Prompts and references in the notation of competition data sets."""
PROBES = (
    references.gold_self_score,
    references.wrong_gold,
    free.constant_answers,
    free.prompt_copy,
    free.enumeration,
    free.format_only,
    texts.unicode,
    texts.reasoning_leak,
    texts.truncation,
    judges.injection,
)


@pytest.mark.parametrize("quarter", [0, *(pytest.param(number, marks=pytest.mark.full) for number in (1, 2, 3))])
def test_math_passes_on_competition_maths(audit, quarter):
    tasks = make_tasks([{"prompt": prompt, "answer": answer} for prompt, answer in ROWS[quarter::4]])
    found = audit({"main": {"use": "math"}}, *PROBES, tasks=tasks)
    assert [
        (one.message, [graded.case for graded in one.examples[:2]]) for one in found if one.result is not Result.PASSED
    ] == []


def test_an_answer_in_any_form_is_found_out_by_its_copies_of_the_prompt(audit):
    tasks = make_tasks([{"prompt": prompt, "answer": answer} for prompt, answer in ROWS[:18]])
    found = audit({"main": {"use": "math", "form": "any"}}, free.prompt_copy, tasks=tasks)
    assert found.result is Result.FAILED


def test_contains_passes_on_answers_of_one_word(audit):
    cities = ["Paris", "Rome", "Oslo", "Lima", "Madrid", "Cairo"]
    tasks = make_tasks([{"prompt": f"Capital number {n}?", "answer": city} for n, city in enumerate(cities)])
    found = audit({"main": {"use": "contains", "column": "answer"}}, *PROBES, tasks=tasks)
    assert [(one.message, one.examples[:2]) for one in found if one.result is Result.FAILED] == []
