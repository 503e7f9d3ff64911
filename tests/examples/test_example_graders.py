"""The graders of the examples, on values worked out by hand."""

import json
from typing import Any

import pytest

from rft.embedded.examples.ner.graders import MAX_CHARS, SpanF1, read_marks
from rft.embedded.examples.product_descriptions.graders import SupportedFacts
from rft.types import Score, Status, Task

FACTS = {"item": "desk lamp", "year": "1936", "material": "steel", "condition": "no scratch"}
ORANGE = "[ORG Orange] sells an orange to [PER Ada]."


def scored(grader: Any, completion: str, **item: Any) -> Score | None:
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item=item, split="train")
    return grader.grade(completion, task)


def test_marks_are_places_in_the_text_without_them() -> None:
    text, spans = read_marks(ORANGE)
    assert text == "Orange sells an orange to Ada."
    assert spans == {(0, 6, "ORG"), (26, 29, "PER")}


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (ORANGE, 1.0),
        (f"<think>two names</think>\n{ORANGE}", 1.0),
        ("[ORG Orange] sells an orange to Ada.", 2 / 3),  # 2 x 1 right / (1 marked + 2 names)
        ("Orange sells an [ORG orange] to [PER Ada].", 0.5),  # the fruit, not the company
        ("[LOC Orange] sells an orange to [PER Ada].", 0.5),
        ("[ORG Orange sells] an orange to [PER Ada].", 0.5),
        ("[ORG Orange] [ORG sells] [ORG an] [ORG orange] [ORG to] [PER Ada].", 0.5),  # 2 x 2 / (6 + 2)
        ("Orange sells an orange to Ada.", 0.0),
        (f"{ORANGE} {ORANGE}", 0.0),
        ("[ORG Orange] [ORG Orange] sells an orange to [PER Ada].", 0.0),
        ("[ORG [PER Orange]] sells an orange to Ada.", 0.0),
        ("[ORG Orange] [PER Ada]", 0.0),
        (ORANGE + "x" * MAX_CHARS, 0.0),
        ("", 0.0),
    ],
)
def test_span_f1(answer: str, value: float) -> None:
    score = scored(SpanF1(), answer, answer=ORANGE)
    assert score is not None
    assert score.value == pytest.approx(value)


def test_a_reference_without_a_name_is_a_fault_and_none_is_no_task() -> None:
    with pytest.raises(ValueError, match="the reference of task t marks no name: 'An orange"):
        scored(SpanF1(), "An orange.", answer="An orange.")
    assert scored(SpanF1(), ORANGE, answer=None) is None


@pytest.mark.parametrize(
    ("description", "value"),
    [
        ("A steel desk lamp from 1936, no scratch.", 1.0),
        ("A STEEL DESK LAMP FROM 1936: NO SCRATCH!", 1.0),
        ("A desk lamp from 1936, no scratch.", 0.75),
        ("A steel lamp from 1936, no scratch.", 0.75),  # half of a fact is none
        ("", 0.0),
        ("A steel desk lamp from 1936, no scratch, 40 cm high.", 0.0),
        ("A rare steel desk lamp from 1936, no scratch.", 0.0),
        ("A steel and brass desk lamp from 1936, no scratch.", 0.0),
    ],
)
def test_supported_facts(description: str, value: float) -> None:
    answer = json.dumps({"title": "For sale", "description": description})
    score = scored(SupportedFacts(), answer, facts=FACTS)
    assert score is not None
    assert score.value == pytest.approx(value)


@pytest.mark.parametrize("answer", ["", "steel desk lamp 1936 no scratch", "[]", '{"title": "lamp"}', '{"title": 1}'])
def test_what_is_no_description(answer: str) -> None:
    score = scored(SupportedFacts(), answer, facts=FACTS)
    assert score is not None
    assert (score.value, score.status) == (0.0, Status.INVALID_OUTPUT if answer else Status.NO_ANSWER)


@pytest.mark.parametrize("facts", ["steel", {}, ["steel"]])
def test_facts_that_are_none_are_a_fault(facts: object) -> None:
    with pytest.raises(ValueError, match="column 'facts' of task t is not an object of facts"):
        scored(SupportedFacts(), "{}", facts=facts)
    assert scored(SupportedFacts(), "{}", facts=None) is None
