"""Graders of answers with passages. The scores are worked out by hand."""

import asyncio

import pytest

from graders.abstains import Abstains
from graders.cites import Cites
from graders.claims import Claims
from graders.facts import facts_of
from graders.quotes import Quotes
from graders.supported import Supported
from rft.grading import Status, Task, grader_problems, load_grader
from rft.grading.cited_answers import read_answer
from tests.graders.passages import WATER, orchid_task

MISSED = {"relevant": ("p9",)}
"""A row whose relevant passage the search did not find."""
UNANSWERABLE = {"relevant": ()}
LEFT_OUT = {"shown": ("p2", "p3"), "passages_left_out": True}


def value(grader, completion, **task):
    return grader.grade(completion, orchid_task(**task)).value


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("Every 7 days [p1].", ["p1"]),
        ("Every 7 days [p1, p2] or so [p1;p3][ p2 ].", ["p1", "p2", "p3"]),
        ("Every 7 days [p9]", ["p9"]),
        ("[p\uff11] [p\u0661] [p\u00b9] [\u0440" + "1]", ["p\uff11", "p\u0661", "p\u00b9", "\u0440" + "1"]),
        ("\uff3bp1\uff3d (p1) p1 {p1}", []),
        ("[see below] [text](address) \\[p1\\]", []),
        ("<think>[p1]</think> Every 7 days [p2]", ["p2"]),
    ],
)
def test_citations_are_read(text, cited):
    assert list(read_answer(text, orchid_task(), "relevant").cited) == cited


def test_an_id_may_hold_blanks_and_commas():
    passages = [{"id": "care sheet, 7", "text": "x"}]
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item={"passages": passages}, split="train")
    answer = read_answer("Weekly [care sheet, 7].", task, "relevant")
    assert (answer.cited, answer.bare) == (("care sheet, 7",), "Weekly.")


@pytest.mark.parametrize(
    ("completion", "task", "score"),
    [
        ("Every 7 days [p1].", {}, 1.0),
        ("Every 7 days [p1] [p1].", {}, 1.0),
        ("Every 7 days.", {}, 0.0),
        ("Every 7 days [p2].", {}, 0.0),
        ("Every 7 days [p1] [p2].", {}, 0.0),  # half of the citations are right
        ("Every 7 days [p1] [p9].", {}, 0.0),  # p9 does not exist
        ("Every 7 days [p1].", {"relevant": ("p1", "p3")}, 2 / 3),  # precision 1, recall 1/2
        ("Every 7 days [p1, p2, p3].", {"relevant": ("p1", "p3")}, 0.0),  # all, although one is not relevant
        ("Every 7 days [p1, p3, p9].", {"relevant": ("p1", "p3")}, 0.8),  # precision 2/3, recall 1
        ("Every 7 days [p1, p2, p3].", {"relevant": ("p1", "p2", "p3")}, 1.0),
        ("Every 7 days [p1].", {"relevant": ("p1", "p9")}, 1.0),  # p9 was not found, so nobody can cite it
        ("The sheets do not say.", LEFT_OUT, 1.0),
        ("Every 7 days [p1].", LEFT_OUT, 0.0),
        ("The sheets do not say [p2].", LEFT_OUT, 0.0),
        ("The sheets do not say.", UNANSWERABLE, 1.0),
        ("Every 7 days [p9].", MISSED, 0.0),
        ("Every 7 days.", MISSED, 0.0),
        ("[p1]", {}, 0.0),
        ("", LEFT_OUT, 0.0),
        (f"{WATER} [p1]", {}, 0.0),  # pasted
        ("Every \u0667 days [p\uff11].", {}, 0.0),
    ],
)
def test_cites(completion, task, score):
    assert value(Cites(), completion, **task) == pytest.approx(score)


@pytest.mark.parametrize(
    ("completion", "task", "score"),
    [
        ('It says "every 7 days" [p1].', {}, 1.0),
        ('It says \u201cEvery  7 days\u201d [p1].', {}, 1.0),
        ('"every 7 days" [p2]', {}, 0.0),  # another passage
        ('"every 7 days" [p2] and, rightly, [p1]', {}, 0.0),  # the next citation counts
        ('"every 7 days" [p1] [p2], [p3]', {}, 0.0),  # all of them
        ('"every 7 days"', {}, 0.0),
        ('"every 8 days" [p1]', {}, 0.0),
        ('"very 7 day" [p1]', {}, 0.0),  # whole words
        ('"7 days" [p1]', {}, 0.0),  # too short for a quotation
        ('"every 7 days" and "stand in the water" [p1]', {}, 0.5),
        ('"every 7 days" [p1] "every 7 days" [p1] "stand in the water" [p1]', {}, 0.5),  # each counts once
        ('"cool nights below 15 degrees" [p3]', {}, 0.0),  # not relevant
        ('"cool nights below 15 degrees" [p3]', {"relevant": None}, 1.0),
        ("Every 7 days [p1].", {}, 0.0),
        ("The sheets do not say.", LEFT_OUT, 1.0),
        ('"cool nights below 15 degrees" [p3]', LEFT_OUT, 0.0),
        ('"every 7 days" [p1]', MISSED, 0.0),
        (f'"{WATER}" [p1]', {}, 0.0),
    ],
)  # fmt: skip
def test_quotes(completion, task, score):
    assert value(Quotes(), completion, **task) == score


@pytest.mark.parametrize(
    ("completion", "task", "score"),
    [
        ("Every 7 days [p1].", {}, 1.0),
        ("Every seven days, 30000 lux.", {}, 1.0),
        ("Every 7.0 days.", {}, 1.0),
        ("Every 8 days.", {}, 0.0),
        ("Every 17 days.", {}, 0.0),
        ("Named on March 1st, 2026.", {}, 1.0),
        ("Named on 2026-03-01, in March 2026, in 2026.", {}, 1.0),
        ("Named on 2 March 2026.", {}, 0.0),
        ("Named in March. Until then, every 7 days.", {}, 1.0),  # a new sentence, no name
        ("Named in March 2025.", {}, 0.0),
        ("Named by the Royal Society.", {}, 1.0),
        ("Named by the Linnean Society.", {}, 0.0),
        ("For a plant from Ecuador, weekly.", {}, 1.0),  # the prompt names it
        ("Water it well.", {}, 1.0),
        ("One of them: every \uff17 days.", {}, 1.0),
        ("Every 7 days.", MISSED, 0.0),
        ("The sheets do not say.", LEFT_OUT, 1.0),
        (f"{WATER}", {}, 0.0),
        ("!", {}, 0.0),
    ],
)
def test_supported(completion, task, score):
    assert value(Supported(), completion, **task) == score


def test_facts():
    facts = facts_of("May I? On 3 May, NASA saw 1,000.50 Vandas; twenty at Kew's gate. 2026-12-01.")
    assert facts.numbers == {"1000.5", "20"}
    assert facts.dates == {(None, 5, "3"), ("2026", 12, "1")}
    assert facts.names == ("NASA", "Vandas", "Kew")


@pytest.mark.parametrize(
    ("completion", "task", "score"),
    [
        ("Every 7 days.", {}, 1.0),
        ("The sheets do not say.", {}, 0.0),
        ("I don\u2019t know.", {}, 0.0),
        ("The sheets DO NOT SAY how often [p2].", LEFT_OUT, 1.0),
        ("I'm sorry. The sheets do not say.", UNANSWERABLE, 1.0),
        ("The sheets do not say.", MISSED, 1.0),
        ("Every 7 days.", LEFT_OUT, 0.0),
        ("The sheets do not say. Every 7 days.", LEFT_OUT, 0.0),
        ("The sheets do not say, but every 7 days.", LEFT_OUT, 0.0),
        ("The sheets do not say " + "anything " * 20, LEFT_OUT, 0.0),  # 180 characters more
        ("They do not sayeth.", LEFT_OUT, 0.0),
        ("", LEFT_OUT, 0.0),
        ("Every 7 days.", {"relevant": None, "passages_left_out": False}, 1.0),
    ],
)
def test_abstains(completion, task, score):
    assert value(Abstains(), completion, **task) == score


def test_phrases_are_yours():
    assert value(Abstains(phrases=("pass",)), "Pass.", **LEFT_OUT) == 1.0
    assert value(Abstains(phrases=("pass",)), "I do not know.", **LEFT_OUT) == 0.0


def claim(supported, passage=1):
    return {"claim": "weekly", "reasoning": "r", "passage": passage, "supported": supported}


def judged(server, completion="Every 7 days [p1].", **task):
    grader = Claims(base_url=server.url, model="judge", attempts=2, backoff_s=0.0)
    return asyncio.run(grader.grade(completion, orchid_task(**task)))


def test_claims_are_judged_one_by_one(model_server):
    model_server.says({"claims": [claim(True), claim(False, None), claim(True, 3), claim(False, 2)]})
    score = judged(model_server)
    assert (score.value, score.reason) == (0.5, '2 of 4 claims supported; not: "weekly"; not: "weekly"')
    ((_, _, body),) = model_server.requests
    system, user = (message["content"] for message in body["messages"])
    nonce = user.split()[1]
    assert f'begins with "BEGIN {nonce}"' in system
    assert f"BEGIN {nonce} PASSAGE 1\n{WATER}\nEND {nonce} PASSAGE 1\n\nBEGIN {nonce} PASSAGE 2\n" in user
    assert user.endswith(f"BEGIN {nonce} ANSWER\nEvery 7 days.\nEND {nonce} ANSWER")  # a citation proves nothing


def test_an_answer_without_a_claim(model_server):
    for task, expected in (({}, 0.0), (LEFT_OUT, 1.0), (UNANSWERABLE, 1.0)):
        model_server.says({"claims": []})
        assert judged(model_server, "The sheets do not say.", **task).value == expected
    assert judged(model_server, "[p1]").value == judged(model_server, WATER).value == 0.0
    assert judged(model_server, **MISSED).value == 0.0
    assert len(model_server.requests) == 3


@pytest.mark.parametrize(
    "reply",
    [
        "yes",
        {"claims": "none"},
        {"claims": [claim("yes")]},
        {"claims": [claim(True, None)]},  # supported, and by nothing
        {"claims": [claim(True, 4)]},  # there are three passages
        {"claims": [claim(True)], "verdict": 1},
    ],
)
def test_a_fault_of_the_judge_is_no_score(model_server, reply):
    for _ in range(2):
        model_server.says(reply)
    score = judged(model_server)
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)
    assert "gave no verdict" in score.reason


@pytest.mark.parametrize("grader", [Cites(), Quotes(), Supported(), Abstains()])
def test_what_a_row_lacks_is_named(grader):
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item={"relevant": ["p1"]}, split="train")
    with pytest.raises(LookupError, match="task t has no passages; set retrieval=<store>"):
        grader.grade("Every 7 days [p1].", task)
    broken = Task(id="t", messages=task.messages, item={"relevant": [], "passages": ["a"]}, split="train")
    with pytest.raises(ValueError, match="not a list of objects with id and text"):
        grader.grade("Every 7 days [p1].", broken)


def test_rows_must_say_what_is_relevant():
    with pytest.raises(LookupError, match="no column 'relevant'"):
        value(Cites(), "Every 7 days [p1].", relevant=None)
    with pytest.raises(LookupError, match="neither 'passages_left_out' nor a column 'relevant'"):
        value(Abstains(), "Every 7 days.", relevant=None)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ({"use": "abstains", "phrases": [" "]}, "none may be empty"),
        ({"use": "abstains", "slack_chars": -1}, "slack_chars=-1 must be at least 0"),
        ({"use": "quotes", "min_words": 21}, "min_words=21 must be at least 1, and at most max_copied_words=20"),
        ({"use": "claims", "base_url": "nowhere", "model": "m", "attempts": 0, "sampling": {"n": 2}},
         "attempts must be at least 1, temperature at least 0; sampling cannot set n; base_url='nowhere'"),
    ],
)  # fmt: skip
def test_options_that_cannot_work(entry, problem):
    (found,) = grader_problems("main", entry)
    assert problem in found


@pytest.mark.parametrize(
    ("completion", "score"),
    [
        ("7 [p1]", 1.0),  # numeric reads the last number, which is not the 1 of p1
        ("8 [p1]", 0.0),
        ("7", 0.0),
        ("7 [p2]", 0.0),
        ("<think>8 [p2]</think>7 [p1]", 1.0),
    ],
)
def test_graders_of_the_answer_read_it_without_citations(completion, score):
    children = {"correct": {"use": "numeric"}, "cites": {"use": "cites"}}
    loaded = load_grader("main", {"use": "composite", "how": "grounded", "of": children})
    assert loaded.call(completion=completion, task=orchid_task(answer="7"), rollout=None).value == score


@pytest.mark.parametrize(
    ("children", "problem"),
    [
        ({"cites": {"use": "cites"}}, "`how: grounded` needs a grader of the answer, such as contains"),
        ({"correct": {"use": "exact"}}, "`how: grounded` needs a grader of citations: abstains, cites, claims"),
        ({"correct": {"use": "exact", "weight": 2}, "cites": {"use": "cites"}}, "of.correct.weight: it has no effect"),
    ],
)
def test_a_grounded_reward_has_both(children, problem):
    (found,) = grader_problems("main", {"use": "composite", "how": "grounded", "of": children})
    assert problem in found


def test_a_long_answer_is_not_read():
    for grader in (Cites(), Quotes(), Supported(), Abstains()):
        assert grader.grade('"a b c" [p1] ' * 9_000, orchid_task()).status is Status.INVALID_OUTPUT
