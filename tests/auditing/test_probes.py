"""Probes on graders that are good, and on those that everybody has written once. The counts are worked out by hand."""

import asyncio

import pytest

from rft.auditing.bench import Bench, as_rollout
from rft.auditing.cases import Case
from rft.auditing.examine import as_object, examine, verdict
from rft.auditing.findings import Result
from rft.auditing.probes import PROBES, code, cost, data, free, judges, references, robustness, stability, texts
from rft.auditing.subject import Subject
from rft.types import StopReason
from tests.auditing.conftest import make_tasks, sums

MINE = """
import re, random, time
from rft.grading import final_answer

def exact(completion, task): return completion.strip() == task.item["answer"]
def contains(completion, task): return task.item["answer"] in completion
def prefix(completion, task): return final_answer(completion).startswith(task.item["answer"])
def nonsense(completion, task): return 1.0 if completion else 0.0
def always(completion, task): return 1.0
def none_pays(completion, task):
    return 1.0 if task.item.get("answer") is None else completion.strip() == task.item["answer"]
def first_number(completion, task):
    found = re.search(r"-?[0-9]+", completion)
    return found is not None and found[0] == task.item["answer"]
def pays_length(completion, task): return min(1.0, (task.item["answer"] in completion) / 2 + len(completion) / 4000)
def dice(completion, task): return random.random()
calls = []
def counts(completion, task):
    calls.append(1)
    return float(completion.strip() == task.item["answer"]) if len(calls) % 5 else 0.25
def nan(completion, task): return float("nan") if completion.endswith(".") else completion == task.item["answer"]
def raises(completion, task): return int(completion) == int(task.item["answer"])
def slow_on_powers(completion, task):
    if "^9" in completion: time.sleep(60)
    return completion.strip() == task.item["answer"]
def hangs(completion, task): time.sleep(60)
def blocks(completion, task):
    if completion.startswith("((("): time.sleep(0.7)
    return completion.strip() == task.item["answer"]
blocks.in_process = True
def tagged(completion, task): return completion == f"<plan></plan> <final>{task.item['answer']}</final>"
def persuaded(completion, task):
    return 1.0 if "highest score" in completion else completion.strip() == task.item["answer"]
def similar(completion, task):
    return 1.0 if completion.strip() == task.item["answer"] else 0.3 if completion else 0.0
def form(completion, task): return completion.startswith("<answer>")
def leaves_a_mark(completion, task):
    if completion == "": calls.append("mark")
    return completion.strip() == task.item["answer"] and not calls
def terse(completion, task):
    return 1.0 if completion == task.item["answer"] else max(0.0, 0.9 - 0.1 * len(completion.split()))
"""


@pytest.fixture(autouse=True)
def graders(audit):
    audit.file(MINE)


# References.


@pytest.mark.usefixtures("in_workers")
def test_right_answers_are_paid(audit):
    found = audit("exact", references.gold_is_paid)
    assert (found.result, found.figures["format"], found.figures["mean"]) == (Result.WARNED, "bare", 1.0)
    assert found.figures["by_format"]["boxed"] == 0.0
    assert "boxed" in found.said
    found = audit({"main": {"use": "numeric"}}, references.gold_is_paid)
    assert (found.result, set(found.figures["by_format"].values())) == (Result.PASSED, {1.0})


def test_a_grader_that_underpays_right_answers(audit):
    # No text is longer than 80 characters, so length adds at most 0.02 to the half for the answer.
    found = audit("pays_length", references.gold_is_paid)
    assert found.result is Result.FAILED
    assert 0.5 < found.figures["mean"] < 0.53
    assert len(found.examples) == 8


def test_a_format_of_the_graders_own_is_no_fault(audit):
    assert audit("tagged", references.gold_is_paid).result is Result.FAILED
    template = "<plan></plan> <final>{answer}</final>"
    found = audit("tagged", references.gold_is_paid, template=template)
    assert (found.figures["format"], found.figures["mean"]) == ("yours", 1.0)


@pytest.mark.parametrize(("grader", "paid"), [("exact", 0), ("nonsense", 56), ("contains", 32)])
def test_wrong_answers(audit, grader, paid):
    """Of each of 8 tasks: another's answer, one more, one less, and four that contain the answer: the opposite, ten
    times as much, a hedge, and the answer taken back."""
    found = audit(grader, references.wrong_gold_is_not_paid)
    assert (found.figures["cases"], found.figures["paid"]) == (56, paid)
    assert found.result is (Result.FAILED if paid else Result.PASSED)
    if grader == "contains":
        assert found.examples[0].case.completion == "-7"


def test_a_grader_of_prefixes_pays_what_begins_with_the_answer(audit):
    found = audit("prefix", references.wrong_gold_is_not_paid)
    # Of each of 8 tasks: ten times as much, a hedge, the answer taken back.
    assert (found.result, found.figures["paid"]) == (Result.FAILED, 24)
    cities = make_tasks([{"prompt": f"{n}?", "answer": city} for n, city in enumerate(["Paris", "Rome", "Oslo"])])
    found = audit("prefix", references.wrong_gold_is_not_paid, tasks=cities)
    assert (found.result, found.figures["paid"]) == (Result.FAILED, 6)


def test_partial_credit_for_nearly_right_answers_is_a_warning(audit):
    rows = [{"prompt": f"{n}?", "answer": {"a": n, "b": 0, "c": 0, "d": 0}} for n in range(4)]
    found = audit({"main": {"use": "json_match"}}, references.wrong_gold_is_not_paid, tasks=make_tasks(rows))
    assert found.result is Result.FAILED  # three of four fields are the same in every row
    rows = [{"prompt": f"{n}?", "answer": {"a": n, "b": n, "c": n, "d": 0}} for n in range(4)]
    found = audit({"main": {"use": "json_match"}}, references.wrong_gold_is_not_paid, tasks=make_tasks(rows))
    assert (found.result, found.figures["mean"], found.figures["paid_in_full"]) == (Result.WARNED, 0.25, 0)


def test_rows_without_a_reference(audit):
    assert audit({"main": {"use": "numeric"}}, references.null_references).result is Result.PASSED
    found = audit("none_pays", references.null_references)
    # 5 tasks x 7 answers where it is None, and as many where it is missing; an empty one equals the empty answer.
    # Two of each seven spell None out, which alone would be a warning.
    assert (found.result, found.figures["paid"], len(found.examples)) == (Result.FAILED, 75, 50)


def test_a_reference_that_becomes_the_text_null(audit):
    template = {"type": "string_check", "name": "s", "operation": "eq"}
    entry = {"openai": {**template, "input": "{{ sample.output_text }}", "reference": "{{ item.answer }}"}}
    found = audit({"main": entry}, references.null_references)
    assert (found.result, {one.case.completion for one in found.examples}) == (Result.WARNED, {"null", ""})
    tasks = [*sums(), *make_tasks([{"prompt": "?", "answer": None}])]
    found = audit({"main": entry}, references.null_references, tasks=tasks)  # now there is such a row
    assert (found.result, {one.case.completion for one in found.examples}) == (Result.FAILED, {"null"})


def test_a_little_for_anything_is_a_warning_where_there_is_partial_credit(audit):
    found = audit("similar", free.constants_are_not_paid)
    assert (found.result, found.figures["paid"]) == (Result.WARNED, 8 * (len(free.CONSTANTS) - 1))
    assert audit("nonsense", free.constants_are_not_paid).result is Result.FAILED


def test_words_of_a_worked_solution_are_no_parts_of_the_answer(audit):
    rows = [{"prompt": "?", "answer": "It is 3 + 4, so 3 + 4 = 7, and 7 it is.\n#### 7"}]
    found = audit({"main": {"use": "numeric"}}, references.less_is_not_more, tasks=make_tasks(rows))
    assert found.result is Result.NOT_APPLICABLE


# What costs no work.


def test_empty_answers(audit):
    assert audit("exact", free.constants_are_not_paid).result is Result.PASSED
    found = audit("nonsense", free.constants_are_not_paid)
    assert found.figures["paid"] == 8 * (len(free.CONSTANTS) - 1)  # all but the empty text
    assert audit("always", free.constants_are_not_paid).figures["paid"] == 8 * len(free.CONSTANTS)


def test_without_references_only_a_grader_that_sees_no_difference_fails(audit):
    tasks = make_tasks([{"prompt": "Write a poem."}])
    assert audit("always", free.constants_are_not_paid, tasks=tasks).result is Result.FAILED
    assert audit("nonsense", free.constants_are_not_paid, tasks=tasks).result is Result.WARNED
    assert audit("always", references.gold_is_paid, tasks=tasks).result is Result.NOT_APPLICABLE


def test_the_prompt_given_back(audit):
    assert audit({"main": {"use": "math"}}, free.the_prompt_is_not_paid).result is Result.PASSED
    told = make_tasks([{"prompt": f"Say {word}", "answer": word} for word in ("red", "green", "blue")])
    found = audit("contains", free.the_prompt_is_not_paid, tasks=told)
    assert (found.result, found.figures["paid"]) == (Result.FAILED, 3)
    assert found.examples[0].case.completion == "Say red"


def test_lists_of_all_answers(audit):
    for use in ("exact", "numeric", "math"):
        assert audit({"main": {"use": use}}, free.everything_is_not_paid).result is Result.PASSED
    found = audit("contains", free.everything_is_not_paid)
    assert (found.result, found.figures["paid"], found.figures["cases"]) == (Result.FAILED, 40, 40)  # 5 lists x 8 tasks


def test_the_most_frequent_answer(audit, make_rollout):
    rows = [{"prompt": f"{n}?", "answer": "yes" if n < 6 else "no"} for n in range(8)]
    found = audit("exact", free.one_answer_to_all, tasks=make_tasks(rows))
    assert (found.result, found.figures["mean"]) == (Result.WARNED, 0.75)
    tasks = make_tasks(rows)
    recorded = [(task, [make_rollout(task.id, text=text)]) for task, text in zip(tasks, ["yes", "no"] * 4, strict=True)]
    found = audit("exact", free.one_answer_to_all, tasks=tasks, recorded=recorded)
    # The base model is right on 0, 2, 4 and 7.
    assert (found.result, found.figures["base_model_mean"]) == (Result.FAILED, 0.5)
    assert audit("exact", free.one_answer_to_all).result is Result.NOT_APPLICABLE


def test_style_is_told_from_being_right(audit):
    def entries(weight):
        return {"correct": {"use": "exact"}, "form": {"use": "mine.py:form", "weight": weight}}

    found = audit(entries(0.2), free.the_form_alone_is_not_paid)
    assert audit.subject.style == {"form"}
    assert (found.result, found.figures["style_share"]) == (Result.PASSED, pytest.approx(0.2 / 1.2))
    assert audit(entries(0.5), free.the_form_alone_is_not_paid).result is Result.WARNED  # a third
    assert audit(entries(1.0), free.the_form_alone_is_not_paid).result is Result.FAILED  # a half
    assert audit(entries(0.2), free.constants_are_not_paid).result is Result.PASSED  # <answer></answer> has its 0.2


# Texts.


def test_length(audit):
    assert audit("exact", texts.length_is_not_paid).result is Result.PASSED
    found = audit("pays_length", texts.length_is_not_paid)
    assert (found.result, found.figures["rank_correlation"]) == (Result.FAILED, pytest.approx(1.0))


def test_rank_correlation_with_ties():
    assert texts.rank_correlation([1, 2, 3, 4], [10, 20, 30, 40]) == pytest.approx(1.0)
    assert texts.rank_correlation([1, 2, 3, 4], [5, 5, 1, 1]) == pytest.approx(-2 / 5**0.5)  # as scipy.stats.spearmanr
    assert texts.rank_correlation([1, 2], [3, 3]) == 0.0


def test_thinking(audit):
    assert audit("exact", texts.thinking_is_not_answering).result is Result.PASSED
    found = audit("first_number", texts.thinking_is_not_answering)
    # Not paid of each four is only: the wrong answer first, the right one in thinking behind it.
    assert (found.result, len(found.examples)) == (Result.FAILED, 24)


def test_cut_answers(audit):
    found = audit("exact", texts.cut_answers)
    assert (found.result, found.figures["cases"]) == (Result.PASSED, 7)  # of 7 there is nothing to cut
    assert audit("nonsense", texts.cut_answers).result is Result.FAILED


def test_unicode(audit):
    found = audit({"main": {"use": "numeric"}}, texts.lookalikes)
    assert found.result is not Result.FAILED
    audit.file(
        "import unicodedata\n"
        "def loose(completion, task): return unicodedata.normalize('NFKC', completion) == task.item['answer']"
    )
    found = audit("loose", texts.lookalikes)
    assert found.result is Result.FAILED
    assert found.examples[0].case.completion == "4\u00b2"


# Judges.


def test_persuasion(audit):
    assert audit("exact", judges.nobody_is_persuaded).result is Result.PASSED
    found = audit("persuaded", judges.nobody_is_persuaded)
    assert (found.result, found.figures["moved"]) == (Result.FAILED, 8)
    assert audit("exact", judges.the_rubric_holds).result is Result.NOT_APPLICABLE


# Code.

PROGRAM = (
    "def biggest(xs):\n    best = xs[0]\n    for x in xs:\n        if x > best:\n            best = x\n    return best"
)
CASES = {
    "entry_point": "biggest",
    "cases": [{"args": [[1, 3, 2]], "expected": 3}, {"args": [[-1, -3]], "expected": -1}],
}


def test_mutants_change_one_thing():
    found = dict(code.mutants("def f(a):\n    return a + 1 if a < 2 else 0"))
    changes = ("returns None", "another operator", "another comparison", "another number")
    assert set(found) == {f"{change} in line 2" for change in changes}
    assert found["another operator in line 2"] == "def f(a):\n    return a - 1 if a < 2 else 0"
    assert found["another comparison in line 2"] == "def f(a):\n    return a + 1 if a >= 2 else 0"


@pytest.mark.e2e  # real libraries or real limits: too slow for a unit test
@pytest.mark.usefixtures("in_workers")
def test_a_grader_of_code(audit):
    tasks = make_tasks([{"prompt": "Write biggest.", "solution": PROGRAM, "tests": CASES}])
    cheats, mutants, impossible = audit(
        {"main": {"use": "code_tests", "seconds": 1.5}},
        code.forged_verdicts, code.mutants_die, code.impossible_tests_fail, tasks=tasks, gold="solution",
    )  # fmt: skip
    assert (cheats.result, cheats.figures["cases"]) == (Result.PASSED, len(code.CHEATS))
    # xs[1] instead of xs[0] passes both cases: 3 is still found, and -1 comes in the loop.
    assert [one.case.note for one in mutants.examples] == ["another number in line 2"]
    assert impossible.result is Result.PASSED


@pytest.mark.e2e  # real libraries or real limits: too slow for a unit test
@pytest.mark.usefixtures("in_workers")
def test_a_harness_that_trusts_exit_codes(audit):
    audit.file("""
import subprocess, sys
def trusting(completion, task):
    code = completion.removeprefix("```python").removesuffix("```")
    program = code + "\\n" + task.item["checks"]
    return subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=20).returncode == 0
""")
    tasks = make_tasks([{"prompt": "?", "solution": PROGRAM, "checks": "assert biggest([1, 3, 2]) == 3"}])
    quick = {name: code.CHEATS[name] for name in ("exits with 0", "an object that equals everything", "takes memory")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(code, "CHEATS", quick)
        found = audit("trusting", code.forged_verdicts, tasks=tasks, gold="solution")
    assert found.result is Result.FAILED
    assert [one.case.note for one in found.examples] == ["exits with 0", "an object that equals everything"]


# Data.


def test_leaks(audit):
    rows = [{"prompt": "What is 6 * 7? (Answer: 42)", "answer": "42"}, {"prompt": "1 + 1?", "answer": "2"}]
    found = audit("exact", data.the_prompt_keeps_it, tasks=make_tasks(rows))
    assert (found.result, found.figures["told"]) == (Result.FAILED, 1)
    assert audit("exact", data.the_prompt_keeps_it).result is Result.PASSED


def test_informative_groups():
    assert data.informative_probability([1.0, 0.0], 2) == 1.0
    # 16 completions, 2 right: 1 - [C(2,8) + C(14,8)] / C(16,8) = 1 - 3003/12870
    assert data.informative_probability([1.0] * 2 + [0.0] * 14, 8) == pytest.approx(1 - 3003 / 12870)
    # three values, once, once and twice, groups of 2: 1 - C(2,2)/C(4,2)
    assert data.informative_probability([0.0, 0.5, 1.0, 1.0], 2) == pytest.approx(5 / 6)
    assert data.informative_probability([1.0, 1.0, None], 4) == 0.0


def test_signal(audit, make_rollout):
    tasks = sums()

    def recorded(*texts):
        return [(task, [make_rollout(task.id, n, text=text) for n, text in enumerate(texts)]) for task in tasks]

    found = audit("exact", data.there_is_signal, tasks=tasks, recorded=recorded("7", "42"))
    # Two of eight tasks are solved by one of two completions.
    assert (found.figures["mean"], found.figures["informative"]) == (0.125, 0.25)
    assert found.result is Result.PASSED
    found = audit("exact", data.there_is_signal, tasks=tasks, recorded=recorded("7", "x"))
    assert (found.result, found.figures["informative"]) == (Result.WARNED, 0.125)
    assert audit("exact", data.there_is_signal, tasks=tasks, recorded=recorded("x", "y")).result is Result.FAILED
    assert audit("exact", data.there_is_signal).result is Result.NOT_APPLICABLE


def test_completions_that_were_cut(audit, make_rollout):
    tasks = sums()
    recorded = [(tasks[0], [make_rollout("t0", text="7", stop=StopReason.LENGTH)])]
    found = audit("exact", data.cut_completions, tasks=tasks, recorded=recorded)
    assert (found.result, found.examples[0].case.completion) == (Result.WARNED, "7")


# Stability.


@pytest.mark.usefixtures("in_workers")
@pytest.mark.parametrize(
    ("grader", "result"), [("exact", Result.PASSED), ("dice", Result.FAILED), ("counts", Result.FAILED)]
)
def test_the_same_score_each_time(audit, grader, result):
    found = audit(grader, stability.same_score_each_time)
    assert found.result is result
    assert found.figures["unstable"] == ([] if result is Result.PASSED else ["main"])
    if grader == "dice":
        one, other = found.examples[:2]
        assert one.case == other.case
        assert one.grade.reward != other.grade.reward


@pytest.mark.usefixtures("in_workers")
def test_a_row_that_changes_the_next(audit):
    assert audit("exact", stability.rows_are_apart).result is Result.PASSED
    assert audit("leaves_a_mark", stability.rows_are_apart).result is Result.FAILED


# Robustness and cost.


@pytest.mark.usefixtures("in_workers")
def test_malformed_completions_and_results(audit):
    malformed, scores = audit("raises", robustness.malformed_output, robustness.only_scores_come_back)
    assert malformed.result is Result.WARNED
    assert malformed.figures["grader_faults"] == malformed.figures["cases"] == 48
    assert scores.result is Result.PASSED  # on ordinary answers, plain numbers, it does not fail
    scores = audit("nan", robustness.only_scores_come_back)
    assert scores.result is Result.FAILED
    assert "nan" in scores.examples[0].grade.scores["main"].reason
    assert all(
        one.result is Result.PASSED
        for one in audit("exact", robustness.malformed_output, robustness.only_scores_come_back)
    )


@pytest.fixture
def patient(monkeypatch):
    """On a busy machine the event loop may be late though no grader holds it."""
    monkeypatch.setattr(cost, "STALL_S", 60.0)


@pytest.mark.e2e  # real limits: too slow for a unit test
@pytest.mark.usefixtures("in_workers")
def test_a_cost_bomb_costs_its_deadline(audit, patient):
    entry = {"use": "mine.py:slow_on_powers", "timeout_s": 2.0}
    found = audit({"main": entry}, cost.bombs_cost_one_deadline)
    assert (found.result, found.figures["late"]) == (Result.FAILED, 2)  # bare, and in the format, which is bare as well
    assert found.examples[0].case.completion == "9^9^9^9"
    found = audit("exact", cost.bombs_cost_one_deadline)
    assert found.result is Result.PASSED


@pytest.mark.e2e  # real limits: too slow for a unit test
@pytest.mark.usefixtures("in_workers")
def test_a_grader_in_this_process_must_not_hold_the_event_loop(audit):
    found = audit("blocks", cost.bombs_cost_one_deadline)
    assert found.result is Result.FAILED
    assert "held the event loop" in found.said


@pytest.mark.usefixtures("in_workers")
def test_multiple_choice_is_quick_on_brackets(audit, patient):
    rows = [{"prompt": "?", "choices": ["Rome", "Paris"], "answer": letter} for letter in "AB"]
    found = audit({"main": {"use": "multiple_choice"}}, cost.bombs_cost_one_deadline, tasks=make_tasks(rows))
    assert found.result is Result.PASSED


@pytest.mark.usefixtures("in_workers")
def test_latency(audit):
    found = audit("exact", cost.grading_is_quick, completions_per_step=20)
    assert found.result is Result.PASSED
    latency = found.figures["latency_s"]["main"]
    assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    assert found.figures["step_s"] == pytest.approx(20 / found.figures["completions_per_s"])


# All of them.


@pytest.mark.usefixtures("in_workers")
def test_a_grader_that_always_hangs_is_given_up(audit):
    async def look():
        bench = Bench({"main": {"use": "mine.py:hangs", "timeout_s": 0.1}}, max_concurrency=16, num_workers=8)
        try:
            subject = Subject(bench=bench, tasks=sums(), gold="answer")
            return subject, await examine(subject)
        finally:
            bench.close()

    subject, looked = asyncio.run(look())
    results = [one.finding.result for one in looked]
    assert results == [Result.FAILED] + [Result.NOT_APPLICABLE] * (len(PROBES) - 1)
    assert verdict(looked) == "failed"
    report = as_object(subject, looked, tasks="sums", seconds=1.0)
    assert report["counts"] == {"failed": 1, "warned": 0, "passed": 0, "not applicable": len(PROBES) - 1}


def test_probes_have_names_of_their_own_and_say_why():
    assert len({probe.name for probe in PROBES}) == len(PROBES)
    for probe in PROBES:
        assert all(len(text) > 20 for text in (probe.why, probe.how, probe.threshold, probe.remedy)), probe.name


def test_tokens_are_counted_at_four_characters(audit):
    rollout = as_rollout(Case(task=sums()[0], completion="12345", note=""))
    assert len(rollout.completion_ids) == len(rollout.logprobs) == 2
