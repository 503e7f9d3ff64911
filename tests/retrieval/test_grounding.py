"""The step from a task to its prompt with passages: pure, and strict about rows that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from rft.config.retrieval.base import RetrievalConfig
from rft.data.demonstration_records import Demonstration
from rft.data.messages import BadRow
from rft.retrieval.grounding import Grounding
from rft.retrieval.passages import Passage
from rft.types import Split, Task

FOUND = [Passage(id=f"p{number}", text=f"fact {number}", score=1 - number / 10) for number in range(1, 7)]


def task(**item: Any) -> Task:
    messages = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Which fact?"})
    return Task(id="t1", messages=messages, item=item, split=Split.TRAIN)


def grounded(row: Task, found: list[Passage] | None = None, **settings: Any) -> Task:
    grounding = Grounding(RetrievalConfig(**settings))
    return grounding.ground(row, grounding.query(row), FOUND if found is None else found, "9b2e51c07d44a1f0")


def ids(row: Task) -> list[str]:
    return [passage["id"] for passage in row.item["passages"]]


def problem(row: Task, **settings: Any) -> str:
    with pytest.raises(BadRow) as caught:
        grounded(row, **settings)
    return str(caught.value)


def test_passages_stand_before_the_prompt_and_in_the_item() -> None:
    row = grounded(task(answer="1"), top_k=2)
    assert row.messages[0]["content"] == "Be brief."
    assert row.messages[1]["content"] == "[p1] fact 1\n[p2] fact 2\n\nWhich fact?"
    assert row.item == {
        "answer": "1",
        "passages": [
            {"id": "p1", "text": "fact 1", "metadata": {}, "score": 0.9},
            {"id": "p2", "text": "fact 2", "metadata": {}, "score": 0.8},
        ],
        "passages_fingerprint": "9b2e51c07d44a1f0",
    }
    assert row.id == "t1"


def test_a_demonstration_shows_them_too() -> None:
    answer = {"role": "assistant", "content": "1"}
    row = Demonstration(
        id="t1", messages=task().messages, item={}, split=Split.TRAIN, chat=(*task().messages, answer),
        trained=(False, False, True),
    )  # fmt: skip
    shown = grounded(row, top_k=1)
    assert isinstance(shown, Demonstration)
    assert shown.chat == (*shown.messages, answer)
    assert shown.messages[1]["content"].startswith("[p1] fact 1\n")


def test_a_demonstration_keeps_the_passages_that_its_answer_needs() -> None:
    row = Demonstration(
        id="t1", messages=task().messages, item={"relevant": ["p1"], "left_out": {"answer": "not said"}},
        split=Split.TRAIN, chat=(*task().messages, {"role": "assistant", "content": "1 [p1]"}),
        trained=(False, False, True),
    )  # fmt: skip
    assert "its own answer needs the passages that retrieval.left_out_share leaves out" in problem(
        row, left_out_share=0.5
    )


def test_many_relevant_passages_matter_only_where_some_are_taken_away() -> None:
    row = task(relevant=[f"p{number}" for number in range(17)])
    assert ids(grounded(row, top_k=1)) == ["p1"]
    assert "names more than 16 passages" in problem(row, distractors=1)


def test_a_passage_is_never_read_as_a_template() -> None:
    row = grounded(task(), [Passage(id="p1", text="{{ 7 * 7 }} {% for %}", score=1.0)])
    assert row.messages[1]["content"].startswith("[p1] {{ 7 * 7 }} {% for %}\n")


def test_query_from_a_column_or_a_template() -> None:
    row = task(product="orchid", question="water?")
    assert Grounding(RetrievalConfig(query="product")).query(row).text == "orchid"
    assert Grounding(RetrievalConfig(query="{{ product }} {{ prompt }}")).query(row).text == "orchid Which fact?"
    assert Grounding(RetrievalConfig()).query(row).text == "Which fact?"


def test_excluded_and_low_passages_are_not_shown() -> None:
    assert ids(grounded(task(own="p1"), top_k=2, exclude="own")) == ["p2", "p3"]
    assert ids(grounded(task(), top_k=6, min_score=0.75)) == ["p1", "p2"]


def test_distractors_come_from_further_down_and_are_not_relevant() -> None:
    assert ids(grounded(task(relevant=["p1", "p3"]), top_k=2, distractors=2)) == ["p1", "p2", "p4", "p5"]


def test_relevant_passages_are_left_out_at_the_rate() -> None:
    grounding = Grounding(RetrievalConfig(top_k=2, left_out_share=0.25))
    item = {"relevant": "p1", "answer": "1", "left_out": {"answer": "not in the sources"}}
    rows = []
    for number in range(400):
        row = Task(id="t", messages=({"role": "user", "content": f"{number}?"},), item=item, split=Split.TRAIN)
        rows.append(grounding.ground(row, grounding.query(row), FOUND, "9b2e51c07d44a1f0"))
    left_out = [row for row in rows if row.item["passages_left_out"]]
    assert 70 <= len(left_out) <= 130  # 100 expected, standard deviation 8.7; the draws are fixed
    assert {(*ids(row), row.item["answer"]) for row in left_out} == {("p2", "p3", "not in the sources")}
    others = [row for row in rows if not row.item["passages_left_out"]]
    assert {(*ids(row), row.item["answer"]) for row in others} == {("p1", "p2", "1")}


def test_the_order_depends_on_seed_and_query_alone() -> None:
    orders = [ids(grounded(task(), top_k=6, shuffle=True, seed=seed)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[2]) == [passage.id for passage in FOUND]


def test_rows_that_do_not_fit() -> None:
    assert problem(task(answer="1"), template="{{ passages }} {{ questoin }}") == (
        "retrieval.template names questoin, and the row has: answer"
    )
    assert problem(task(passages=[])) == '"passages" is a column of the row; rename it'
    assert problem(task(answer="1"), query="topic") == (
        'no column "topic" (retrieval.query=topic); it has: answer'
    )  # fmt: skip
    assert "that says what to expect without the relevant passages" in problem(
        task(relevant=["p1"]), left_out_share=0.1
    )
    assert problem(task(), min_score=2.0) == (
        "no passage for 'Which fact?' scores at least retrieval.min_score=2; retrieval.allow_empty=true shows a prompt "
        "without passages"
    )
    assert grounded(task(), [], allow_empty=True).messages[1]["content"] == "Which fact?"


@pytest.mark.parametrize("template", ["{% for %}", "nowhere.jinja"])
def test_a_template_that_cannot_be_used(template: str) -> None:
    with pytest.raises(ValueError, match=r"retrieval.template"):
        Grounding(RetrievalConfig(template=template))


def test_a_template_has_no_way_out_of_its_sandbox() -> None:
    assert "SecurityError" in problem(task(), template="{{ passages.__class__.__mro__ }}")
