"""Settings of an environment that cannot work are refused before anything starts."""

from __future__ import annotations

import pytest

from rft.config.commands import load_evaluation, load_training
from rft.config.tools import ToolConfig
from rft.errors import ConfigError

BASE = ("experiment=quickstart",)
USE = "environment.use=my_env.py:guess"
COMMAND = "environment.command=cat"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("environment.options={a: 1}",), "environment.options: has no effect without environment.use"),
        (("environment.style=skyrl",), "environment.style: has no effect without environment.use"),
        (("graders.environment.use=environment",), "graders.environment.use=environment: the run has no environment"),
        ((USE, "graders.game.use=environment"), "the environment's score is the grader 'environment'"),
        ((USE, "graders.environment.use=length"), "the environment's score is the grader 'environment'"),
        ((USE, "environment.command=cat"), "environment.use and environment.command: each is a whole environment"),
        (("environment.command=' '",), "environment.command is empty"),
        (("environment.command=cat no_agent.py",), "no_agent.py"),
        (("environment.command=python3 -u -X dev no_agent.py",), "no_agent.py"),
        (("environment.command=sh missing/agent",), "missing/agent"),
        (("environment.command=./pyproject.toml",), "./pyproject.toml may not be executed; begin with its program"),
        (("environment.command=no-such-program -v",), "no program 'no-such-program' is in PATH"),
        (('environment.command="cat \'a"',), "cannot be split into words: No closing quotation"),
        (("environment.command=cat", "environment.style=skyrl"), "environment.style: has no effect without"),
        (("environment.command=cat", "learner=sft"), "environment.command=cat: learner=sft does not learn"),
        (("tools.add.timeout_s=3",), "tools.add: names no tool; set use=my_tools.py:function, or mcp to the URL"),
        (("tools.add.use=calculator", "tools.add.mcp=https://a.org"), "tools.add: has both use and mcp; keep one"),
        (("tools.add.use=calculator", "tools.add.allow=[x]"), "tools.add.allow: has no effect without mcp"),
        (("tools.find.index=a", "tools.find.store={kind: http}"), "tools.find: has both index and store; keep one"),
        (
            ("tools.add.use=calculator", "tools.add.top_k=2"),
            "tools.add.top_k: has no effect without index or documents or store",
        ),
        (("tools.find.store={kind: ftp}",), "tools.find.store.kind"),
        (("tools.find.store={kind: http}",), "tools.find.store.url: is missing"),
        (("tools.find.store={kind: none}",), "tools.find.store.kind=none: searches nothing"),
        (
            ("tools.find.store={kind: http, url: 'http://a', top_k: 2}",),
            "tools.find.store.top_k: has no effect on a tool",
        ),
        (("tools.add.mcp=https://a.org", "tools.add.options={a: 1}"), "tools.add.options: has no effect without use"),
        (
            (USE, "environment.files=[words.txt]"),
            "environment.files: has no effect without environment.placement=samplers",
        ),
        (
            (USE, "environment.placement=samplers", "environment.files=[pyproject.toml,no_words.txt]"),
            "environment.files: there is no ",
        ),
        (
            (COMMAND, "environment.placement=samplers"),
            "environment.placement=samplers: a command runs on the driver's machine; leave",
        ),
        (("environment.placement=samplers",), "environment.placement: has no effect without environment.use or tools"),
        ((USE, "learner=sft"), "environment.use=my_env.py:guess: learner=sft does not learn from episodes"),
        (("environment.credit=turn",), "environment.credit: has no effect without environment.use"),
        ((USE, "environment.discount=0.9"), "environment.discount=0.9: has no effect with environment.credit=episode"),
        ((USE, "environment.credit=turn", "learner=raft"), "learner=raft learns from whole completions"),
        (
            (USE, "environment.credit=turn", "environment.discount=0.9", "learner=ppo"),
            "learner=ppo discounts by token; use learner.gamma",
        ),
        (
            (USE, "environment.credit=turn", "learner.importance_sampling_level=sequence"),
            "learner.importance_sampling_level=sequence: weights whole completions",
        ),
        ((USE, "environment.credit=turn", "learner.loss_type=vespo"), "learner.loss_type=vespo: weights whole"),
        (
            ("tools.add.use=calculator", "learner=dpo", "learner.pairs=recorded"),
            "tools: add: learner=dpo learner.pairs=recorded does not learn from episodes; use learner.pairs=sampled, "
            "or leave tools out; of a pipeline, set it for the stages that can: stages.<stage>.tools",
        ),
        (
            (USE, "learner=kto", "learner.completions=recorded"),
            "learner=kto learner.completions=recorded does not learn from episodes; use learner.completions=sampled",
        ),
        ((USE, "learner=distill", "teacher.path=embedded:tiny"), "learner=distill does not learn from episodes"),
    ],
)
def test_what_is_refused(words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_training([*BASE, *words])
    assert any(problem in each for each in caught.value.problems), caught.value.problems


@pytest.mark.parametrize(("word", "cores", "most_open"), [(USE, 2, 256), (COMMAND, 2, 8), (COMMAND, 32, 64)])
def test_the_score_joins_the_graders(monkeypatch: pytest.MonkeyPatch, word: str, cores: int, most_open: int) -> None:
    run = load_training([*BASE, word])
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)))
    assert run.environment.most_open == most_open
    assert run.graders == {"correct": {"use": "reasoning_gym"}, "environment": {"use": "environment"}}
    words = ("model.path=embedded:tiny", "data.test=embedded:chain_sum/test", "evaluation.metric=environment", USE)
    assert list(load_evaluation(words).graders) == ["environment"]


def test_a_resumed_run_sets_every_key_of_a_tool() -> None:
    store = {"kind": "http", "url": "https://example.org/search"}
    for given in ({"use": "calculator"}, {"mcp": "https://example.org/mcp"}, {"index": "index/"}, {"store": store}):
        assert ToolConfig(**ToolConfig(**given).model_dump()).problems() == []


@pytest.mark.parametrize("learner", ["grpo", "ppo", "raft", "dpo", "kto", "gmpo", "reinforce_pp_baseline"])
def test_learners_that_sample_take_episodes(learner: str) -> None:
    assert load_training([*BASE, USE, f"learner={learner}"]).learner.kind == learner
