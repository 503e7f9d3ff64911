"""Composite: sums by hand, and everything that can be wrong with its children."""

import pytest

from rft.errors import ConfigError
from rft.grading import Rollout, Status, Task, load_grader
from rft.types import Policy, StopReason

GRADERS = """
import asyncio
from rft.grading import per_group

def half(completion):
    return 0.5

def two(task):
    return 2

def penalty(rollout):
    return -1.0

async def quarter(completion):
    await asyncio.sleep(0)
    return 0.25

def broken(completion):
    raise RuntimeError("out of order")

def declines(completion):
    return None

def nonsense(completion):
    return "0.5"

async def broken_too(completion):
    raise RuntimeError("no network")

@per_group
def ranked(completions):
    return [0] * len(completions)
"""


@pytest.fixture
def use(tmp_path):
    file = tmp_path / "children.py"
    file.write_text(GRADERS)
    return lambda name, **keys: {"use": f"{file}:{name}", **keys}


def grade(spec, completion="Paris"):
    loaded = load_grader("main", {"use": "composite", **spec})
    task = Task(id="t", messages=({"role": "user", "content": "?"},), item={"answer": "Paris"}, split="train")
    rollout = Rollout(
        task_id="t", index=0, prompt_ids=(1,), completion_ids=(1,), logprobs=(0.0,), text=completion,
        stop=StopReason.STOP, policy=Policy(version=0, fingerprint="f"),
    )  # fmt: skip
    return loaded.call(completion=completion, task=task, rollout=rollout)


@pytest.mark.parametrize(
    ("how", "children", "value"),
    [
        ("sum", {"half": {}, "two": {}}, 2.5),
        ("sum", {"half": {"weight": 3}, "two": {"weight": 0.5}}, 2.5),
        ("sum", {"half": {}, "penalty": {"weight": 0.5}}, 0.0),
        ("mean", {"half": {}, "two": {}}, 1.25),
        ("mean", {"half": {"weight": 3}, "two": {"weight": 1}}, 0.875),
        ("product", {"half": {}, "two": {}, "quarter": {}}, 0.25),
        ("min", {"half": {}, "two": {}, "penalty": {}}, -1.0),
        ("sum", {"quarter": {}, "half": {}}, 0.75),
    ],
)
def test_combinations(use, how, children, value):
    score = grade({"how": how, "of": {name: use(name, **keys) for name, keys in children.items()}})
    assert score.value == pytest.approx(value)
    assert score.status is Status.OK


@pytest.mark.parametrize(
    ("completion", "value", "reason"),
    [
        ("<think>a</think>Paris", 0.75, "correct 1, half 0.5"),
        ("<think>a</think>Rome", 0.25, "correct 0, half 0.5"),
        ("Paris", 0.0, "gate: 0"),
        ("", 0.0, "gate: 0"),
    ],
)
def test_correctness_only_counts_if_the_format_holds(use, completion, value, reason):
    gate = {"use": "format", "pattern": "(?s)<think>.+</think>.+"}
    score = grade({"how": "gate", "gate": gate, "of": {"correct": {"use": "exact"}, "half": use("half")}}, completion)
    assert (score.value, score.reason) == (value, reason)


def test_a_closed_gate_asks_no_further(use):
    score = grade({"how": "gate", "gate": use("half"), "of": {"a": use("broken")}})
    assert (score.value, score.status) == (0.0, Status.OK)
    opened = grade({"how": "gate", "gate": use("half"), "open_at": 0.5, "of": {"a": use("quarter")}})
    assert opened.value == 0.25


@pytest.mark.parametrize(
    ("child", "status", "reason"),
    [
        ("broken", Status.GRADER_ERROR, "of.b: RuntimeError: out of order"),
        ("broken_too", Status.GRADER_ERROR, "of.b: RuntimeError: no network"),
        ("declines", Status.SKIPPED, "of.b: skipped"),
        ("nonsense", Status.GRADER_ERROR, "of.b: returned the str '0.5'"),
    ],
)
@pytest.mark.parametrize("how", ["sum", "mean", "product", "min"])
def test_without_a_childs_value_there_is_none(use, how, child, status, reason):
    score = grade({"how": how, "of": {"a": use("half"), "b": use(child)}})
    assert (score.value, score.status) == (None, status)
    assert score.reason.startswith(reason)


def test_without_the_gates_value_there_is_none(use):
    score = grade({"how": "gate", "gate": use("broken"), "of": {"a": use("half")}})
    assert (score.value, score.status) == (None, Status.GRADER_ERROR)
    assert score.reason.startswith("gate: RuntimeError")


@pytest.mark.parametrize("how", ["product", "gate"])
def test_two_penalties_make_no_reward(use, how):
    gate = {"gate": use("two")} if how == "gate" else {}
    with pytest.raises(ValueError, match=r"of\.a is below 0"):
        grade({"how": how, **gate, "of": {"a": use("penalty"), "b": use("penalty")}})


def test_composites_nest(use):
    inner = {"use": "composite", "how": "sum", "of": {"a": use("half"), "b": use("quarter")}}
    assert grade({"how": "product", "of": {"inner": inner, "two": use("two")}}).value == 1.5


def test_all_problems_with_their_paths(use):
    with pytest.raises(ConfigError) as caught:
        load_grader(
            "main",
            {
                "use": "composite",
                "how": "gate",
                "of": {
                    "a": {"use": "numeric", "tolerance": "x"},
                    "b": {"use": "exct"},
                    "c": use("ranked"),
                    "d": use("half", timeout_s=3),
                    "e": {"use": "composite", "how": "min", "of": {"f": {"use": "length", "free_tokens": 1}}},
                    "g": use("half", weight=-1),
                },
            },
        )
    text = str(caught.value)
    for part in (
        "graders.main",
        "gate: required for",
        "of.a.tolerance: 'x'",
        "of.b.use: there is no grader 'exct' (did you mean 'exact'?)",
        "of.c.use: a grader of whole groups",
        "of.d.timeout_s: set it on the composite",
        "of.f.max_tokens: missing",
        "of.g.weight: -1",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"how": "sum", "of": {}}, "of: add at least one grader"),
        ({"how": "sum", "of": {"a": {"use": "exact"}}, "gate": {"use": "exact"}}, "gate: required for"),
        ({"how": "mean", "of": {"a": {"use": "exact", "weight": 0}}}, "the sum of the weights must be above 0"),
        ({"how": "product", "of": {"a": {"use": "exact", "weight": 2}}}, "of.a.weight: it has no effect"),
        ({"how": "most", "of": {"a": {"use": "exact"}}}, ".how: 'most'"),
        ({"how": "sum", "of": {"a": {"use": "reward_model", "model": "m"}}}, "of.a.use: reward_model cannot be part"),
    ],
)
def test_problems(spec, problem):
    with pytest.raises(ConfigError, match=problem):
        load_grader("main", {"use": "composite", **spec})


def test_where_it_runs(use):
    def runs(*entries):
        spec = {"use": "composite", "how": "sum", "of": {str(n): entry for n, entry in enumerate(entries)}}
        return load_grader("main", spec).in_process

    assert runs({"use": "exact"}, {"use": "contains", "column": "answer"})
    assert not runs({"use": "exact"}, {"use": "math"})
    assert not runs({"use": "exact"}, use("quarter"))
