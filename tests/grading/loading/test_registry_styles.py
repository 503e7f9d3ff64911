"""Entries without `style`: a function follows the system that it declares, or rft's own convention, or is refused."""

import asyncio
import inspect
from types import SimpleNamespace

import pytest

from rft.grading import Task, grader_problems, load_grader
from rft.grading.normalise import to_score, to_scores
from rft.types import StopReason

TASK = Task(id="t", messages=({"role": "user", "content": "2 + 2 = "},), item={"answer": "four"}, split="train")

THEIRS = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import verifiers

def of_trl(completions, **kwargs):
    return [float(one == "four") for one in completions]

def of_verifiers(completion, answer=None, info=None):
    return float(completion[-1]["content"] == answer)

def of_verl(data_source="", solution_str="", ground_truth="", extra_info=None):
    return float(solution_str == ground_truth)

async def of_openrlhf(queries=(), prompts=(), labels=()):
    return [float(query.endswith(label)) for query, label in zip(queries, labels)]

class Dataset:
    def score_answer(self, answer, entry):
        return float(answer == entry["answer"])
dataset = Dataset()
"""

SCORERS = """
from types import SimpleNamespace
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import inspect_ai

def includes(ignore_case=True):
    async def score(state, target):
        text = state.output.completion
        return float(target.text in (text.lower() if ignore_case else text))
    return score
includes.__registry_info__ = SimpleNamespace(type="scorer", name="includes")
"""


@pytest.mark.parametrize(
    ("spec", "scores"),
    [
        ({"use": "theirs.py:of_trl", "style": "trl"}, [1.0, 0.0]),
        ({"use": "theirs.py:of_verifiers"}, [1.0, 0.0]),
        ({"use": "theirs.py:of_verl"}, [1.0, 0.0]),
        ({"use": "theirs.py:of_openrlhf"}, [1.0, 0.0]),
        ({"use": "scorers.py:includes"}, [1.0, 1.0]),
        ({"use": "scorers.py:includes", "ignore_case": False}, [1.0, 0.0]),
        ({"use": "theirs.py:dataset"}, [1.0, 0.0]),
    ],
    ids=str,
)
def test_other_systems_are_recognised_even_where_rft_could_call_the_function(tmp_path, monkeypatch, spec, scores):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.py").write_text(THEIRS)
    (tmp_path / "scorers.py").write_text(SCORERS)
    grader = load_grader("g", spec)
    texts = ["four", "FOUR"]

    def call(some):
        rollouts = [SimpleNamespace(index=0, completion_ids=(1,), stop=StopReason.STOP) for _ in some]
        pool = {"task": TASK, "completion": some[0], "rollout": rollouts[0], "completions": some, "rollouts": rollouts}
        result = grader.call(**{name: pool[name] for name in grader.takes})
        return asyncio.run(awaited(result)) if inspect.isawaitable(result) else result

    found = to_scores(call(texts), 2) if grader.per_group else [to_score(call([text])) for text in texts]
    assert [score.value for score in found] == scores


async def awaited(result):
    return await result


OURS = """
from rft.grading import per_group
def brief(completion, task): return len(completion) < 9
async def patient(completion, task, rollout, limit=9): return len(completion) < limit
async def judged(completion, answer="four"): return completion == answer
def columns(completion, **options): return 1
def constant(value=1.0): return value
@per_group
def ranked(completions, answers=()): return [0.0 for _ in completions]
"""


@pytest.mark.parametrize(
    ("spec", "takes"),
    [
        ({"use": "ours.py:brief"}, ("completion", "task")),
        ({"use": "ours.py:patient"}, ("completion", "task", "rollout")),
        ({"use": "ours.py:judged", "answer": "4"}, ("completion",)),
        ({"use": "ours.py:judged", "style": "rft"}, ("completion",)),
        ({"use": "ours.py:columns", "style": "rft"}, ("completion", "task", "rollout")),
        ({"use": "ours.py:constant", "value": 2}, ()),
        ({"use": "ours.py:ranked"}, ("completions",)),
    ],
    ids=str,
)
def test_graders_of_rft_are_bound_as_such(tmp_path, monkeypatch, spec, takes):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours.py").write_text(OURS)
    assert load_grader("g", spec).takes == takes


@pytest.mark.parametrize("name", ["judged", "columns"])
def test_the_import_of_rft_declares_its_style(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours.py").write_text(OURS)
    (tmp_path / "anyones.py").write_text(OURS.replace("from rft.grading import per_group", "per_group = lambda f: f"))
    assert not grader_problems("g", {"use": f"ours.py:{name}"})
    (problem,) = grader_problems("g", {"use": f"anyones.py:{name}"})
    assert problem.startswith("graders.g.style: the parameters completion, ")
    assert problem.endswith(
        "fit 2 styles; add one line to the entry: `style: rft` (a grader of rft's), "
        "`style: verifiers` (verifiers, rubric functions)"
    )
