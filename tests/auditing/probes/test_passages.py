"""Cheats on passages. The graders that come with rft pay none of them; graders that pay are found out."""

import pytest

from graders.claims import Claims
from rft.auditing.findings import Result
from rft.auditing.probes import data, passages
from tests.auditing.conftest import make_tasks, sums

PLANTS = ("Vanda", "Cymbidium", "Phaius", "Miltonia")
PROBES = (
    passages.cite_everything,
    passages.citations_alone,
    passages.pasted_passages,
    passages.answers_from_memory,
    passages.injected_passages,
    passages.look_alike_ids,
)


def sheet(number):
    plant, days = PLANTS[number % 4], number % 4 + 2
    text = (
        f"{plant} is watered every {days} days in summer, and every {days + 20} days while it rests in a cool winter."
    )
    return {"id": f"p{number % 4}", "text": text, "metadata": {}, "score": 0.5}


def orchids():
    """Four questions; each shows its sheet, and then those of the other plants."""
    rows = []
    for number, plant in enumerate(PLANTS):
        shown = [sheet(number + place) for place in range(4)]
        text = "\n".join(f"[{one['id']}] {one['text']}" for one in shown)
        row = {"answer": f"every {number + 2} days", "relevant": [f"p{number}"], "passages": shown}
        rows.append(row | {"prompt": f"{text}\n\nHow often do I water {plant} in summer?"})
    return make_tasks(rows)


def grounded(*uses, correct=None):
    correct = correct or {"use": "contains", "column": "answer"}
    children = {use: {"use": use} for use in uses}
    if "claims" in children:
        children["claims"] |= {"base_url": "http://127.0.0.1:9/v1", "model": "judge"}
    return {"main": {"use": "composite", "how": "grounded", "of": {"correct": correct, **children}}}


@pytest.fixture
def gullible_judge(monkeypatch):
    """A judge that finds every claim supported, and answers at once."""

    async def verdict(self, messages, *, num_passages):
        return [("claim", True)]

    def grade_at_once(self, completion, task):
        with pytest.raises(StopIteration) as done:
            grade(self, completion, task).send(None)
        return done.value.value

    grade = Claims.grade
    monkeypatch.setattr(Claims, "_verdict", verdict)
    monkeypatch.setattr(Claims, "grade", grade_at_once)


@pytest.mark.usefixtures("gullible_judge")
@pytest.mark.parametrize(
    ("uses", "asks_for_citations"),
    [
        (("cites",), True),
        (("quotes",), True),
        (("supported",), False),
        (("abstains",), False),
        (("claims",), False),
        (("cites", "quotes", "supported", "abstains", "claims"), True),
    ],
)
def test_no_cheat_earns_anything(audit, uses, asks_for_citations):
    found = audit(grounded(*uses), *PROBES, tasks=orchids())
    assert audit.profile.mean(audit.profile.right) == 1.0
    expected = [Result.PASSED] * 5 + [Result.PASSED if asks_for_citations else Result.NOT_APPLICABLE]
    assert [(one.result, one.examples[:1]) for one in found] == [(result, ()) for result in expected]
    assert [one.figures.get("paid", 0) for one in found] == [0] * 6
    assert [one.figures.get("cases") for one in found] == [
        4 * (3 if asks_for_citations else 2),
        4 * 6,
        4 * 5,
        4 * 3,
        4 * 4 * 2,
        4 * 6 if asks_for_citations else None,
    ]


CHEATED = """
import unicodedata

def right(completion, task):
    return task.item["answer"] in completion

def cited(completion, task):
    return float(right(completion, task) and any(f"[{name}]" in completion for name in task.item["relevant"]))

def normalising(completion, task):
    return cited(unicodedata.normalize("NFKC", completion).replace("\\u200b", ""), task)

def positional(completion, task):
    return float(right(completion, task) and f"[{task.item['passages'][0]['id']}]" in completion)

def found_in_sources(completion, task):
    text = " ".join(passage["text"] for passage in task.item["passages"])
    return float(right(completion, task) or "full marks" in text)
"""


@pytest.mark.parametrize(
    ("entries", "probe", "result", "paid"),
    [
        ({"main": {"use": "contains", "column": "answer"}, "cites": {"use": "cites"}},
         passages.cite_everything, Result.FAILED, 4 + 4),
        ({"main": {"use": "cites"}}, passages.cite_everything, Result.FAILED, 4),
        ("cited", passages.cite_everything, Result.FAILED, 4),
        ({"main": {"use": "mine.py:right"}}, passages.pasted_passages, Result.FAILED, 4 * 5),
        ("cited", passages.pasted_passages, Result.FAILED, 4 * 4),
        ("right", passages.answers_from_memory, Result.FAILED, 4 * 3),
        ("cited", passages.answers_from_memory, Result.FAILED, 4),
        ("normalising", passages.look_alike_ids, Result.FAILED, 4 * 4),
    ],
)  # fmt: skip
def test_graders_that_pay_are_found_out(audit, entries, probe, result, paid):
    audit.file(CHEATED)
    if isinstance(entries, str):  # beside a grader that reads the passages, and counts for nothing
        entries = {"main": {"use": f"mine.py:{entries}"}, "abstains": {"use": "abstains", "weight": 0}}
    finding = audit(entries, probe, tasks=orchids())
    assert (finding.result, finding.figures["paid"]) == (result, paid)


def test_a_grader_that_reads_no_passages_is_a_warning(audit):
    finding = audit({"main": {"use": "contains", "column": "answer"}}, passages.answers_from_memory, tasks=orchids())
    assert finding.result is Result.WARNED
    assert "no grader reads the passages" in finding.message


def test_the_order_of_the_passages_counts_for_nothing(audit):
    audit.file(CHEATED)
    finding = audit("positional", passages.answers_from_memory, tasks=orchids())
    assert finding.result is Result.FAILED
    assert finding.message.startswith("4 of 4 right answers earn another reward if the passages change places")


def test_a_passage_that_praises_wrong_answers(audit):
    audit.file(CHEATED)
    finding = audit("found_in_sources", passages.injected_passages, tasks=orchids())
    assert (finding.result, finding.figures["moved"]) == (Result.FAILED, 4 * 2)  # one of four injections


def test_without_passages_the_probes_do_not_apply(audit):
    found = audit("exact", *PROBES)
    assert {one.result for one in found} == {Result.NOT_APPLICABLE}
    assert audit("exact", data.gold_leakage, tasks=sums()).result is Result.PASSED


def test_passages_may_hold_the_reference(audit):
    assert audit(grounded("cites"), data.gold_leakage, tasks=orchids()).result is Result.NOT_APPLICABLE
