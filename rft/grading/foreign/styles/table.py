"""The styles: how each system declares its functions, which arguments it passes, and how its results are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rft.grading.foreign.styles import payloads, results

AnyOf = tuple[str, ...]

COMPLETION_TYPES = ("str", "list[str", "list[dict", "list[list[dict")
"""Annotations of a completion, or of a group's completions, as texts or as messages, without their ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How one system calls a reward function.

    Example:
        Style(name="google", system="Google", signature="evaluate(example, response)",
              marks=(("example",), ("response",)), payload=payloads.google, names=("example", "response"),
              read=results.clipped, positional=True)
    """

    name: str
    """The value of `style` in a grader's entry; it begins with the name of the system's package."""
    system: str
    """The system, and the kind of function where the system has several."""
    signature: str
    """The signature in the system's documents."""
    marks: tuple[AnyOf, ...]
    """Parameters of a function: one of each entry, where `**` stands for `**kwargs`. A declared style requires only the
    first entry."""
    types: Mapping[str, str] = field(default_factory=dict)
    """The beginning of a completion's type, from `COMPLETION_TYPES`, by parameter. Another type excludes the style."""
    payload: Callable[[payloads.Graded], Mapping[str, Any]]
    """Makes the arguments, by parameter name."""
    names: AnyOf
    """Parameter names of the payload, whatever columns the task has."""
    read: Callable[[Any], Any] = results.single
    """Unwraps the result."""
    columns: bool = False
    """Whether the system also passes the task's columns by name."""
    not_columns: AnyOf = ()
    """Columns that the system does not pass."""
    positional: bool = False
    """Whether the system passes the arguments in order, whatever their names in the function."""
    per_group: bool = False
    """Whether one call grades a group."""
    needs_rollout: bool = False
    """Whether the payload also needs the rollouts."""

    @property
    def parameters(self) -> frozenset[str]:
        """All parameters that functions of this style may have, columns aside."""
        return frozenset(self.names).union(*self.marks)


_TRL = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
_VERIFIERS = ("prompt", "completion", "answer", "state", "info", "task", "parser")
_VERIFIERS_GROUP = ("prompts", "completions", "answers", "states", "infos", "tasks", "parser")

_ALL = (
    Style(
        name="trl",
        system="TRL, prompts and completions as texts",
        signature="f(prompts, completions, completion_ids, **columns)",
        marks=(("completions", "completion_ids"),),
        types={"completions": "list[str"},
        payload=payloads.trl,
        names=_TRL,
        read=results.group,
        columns=True,
        not_columns=payloads.TRL_NOT_COLUMNS,
        per_group=True,
        needs_rollout=True,
    ),
    Style(
        name="trl_chat",
        system="TRL, prompts and completions as messages",
        signature="f(prompts, completions, completion_ids, **columns)",
        marks=(("completions",),),
        types={"completions": "list[list[dict"},
        payload=payloads.trl_chat,
        names=_TRL,
        read=results.group,
        columns=True,
        not_columns=payloads.TRL_NOT_COLUMNS,
        per_group=True,
        needs_rollout=True,
    ),
    Style(
        name="verl",
        system="verl",
        signature="compute_score(data_source, solution_str, ground_truth, extra_info=None)",
        marks=(("solution_str",),),
        payload=payloads.verl,
        names=("data_source", "solution_str", "ground_truth", "extra_info"),
    ),
    Style(
        name="verl_pair",
        system="verl, scorers of its reward_score folder",
        signature="compute_score(model_output, ground_truth)",
        marks=(("model_output", "predict_str"), ("ground_truth",)),
        payload=payloads.verl_pair,
        names=("solution_str", "ground_truth"),
        positional=True,
    ),
    Style(
        name="verl_batch",
        system="verl, in batches",
        signature="compute_score(data_sources, solution_strs, ground_truths, extra_infos)",
        marks=(("solution_strs",),),
        payload=payloads.verl_batch,
        names=("data_sources", "solution_strs", "ground_truths", "extra_infos"),
        read=results.group,
        per_group=True,
    ),
    Style(
        name="areal",
        system="AReaL",
        signature="f(prompt, completions, prompt_ids, completion_ids, **columns)",
        marks=(("prompt",), ("completions",), ("prompt_ids", "**")),
        types={"completions": "str"},
        payload=payloads.areal,
        names=("prompt", "completions", "prompt_ids", "completion_ids"),
        columns=True,
        needs_rollout=True,
    ),
    Style(
        name="openrlhf",
        system="OpenRLHF",
        signature="reward_func(queries, prompts, labels)",
        marks=(("queries",),),
        payload=payloads.openrlhf,
        names=("queries", "prompts", "labels"),
        read=results.group,
        per_group=True,
    ),
    Style(
        name="verifiers",
        system="verifiers, rubric functions",
        signature="f(prompt, completion, answer, state, info, task, parser)",
        marks=(("completion", "state"), ("answer", "state", "info", "parser", "**")),
        types={"completion": "list[dict"},
        payload=payloads.verifiers,
        names=_VERIFIERS,
        columns=True,
    ),
    Style(
        name="verifiers_group",
        system="verifiers, rubric functions for groups",
        signature="f(prompts, completions, answers, states, infos, tasks, parser)",
        marks=(("completions", "states"), ("answers", "states", "infos", "tasks", "parser")),
        types={"completions": "list[list[dict"},
        payload=payloads.verifiers_group,
        names=_VERIFIERS_GROUP,
        read=results.group,
        per_group=True,
    ),
    Style(
        name="verifiers_v1",
        system="verifiers v1, @vf.reward",
        signature="f(task, trace)",
        marks=(("trace",),),
        payload=payloads.verifiers_v1,
        names=("task", "trace"),
        read=results.keyed_sum,
        needs_rollout=True,
    ),
    Style(
        name="eval_protocol",
        system="Fireworks eval-protocol, @reward_function",
        signature="f(messages, ground_truth=None, **kwargs)",
        marks=(("messages",),),
        payload=payloads.eval_protocol,
        names=("messages", "ground_truth"),
        columns=True,
    ),
    Style(
        name="aws_lambda",
        system="AWS Nova and Bedrock, a list of samples",
        signature="lambda_handler(event, context)",
        marks=(("event",), ("context", "_context", "_")),
        payload=payloads.aws_lambda,
        names=("event", "context"),
        positional=True,
    ),
    Style(
        name="aws_lambda_single",
        system="AWS Nova and Bedrock, one sample",
        signature="lambda_handler(event, context)",
        marks=(("event",), ("context", "_context", "_")),
        payload=payloads.aws_lambda_single,
        names=("event", "context"),
        positional=True,
    ),
    Style(
        name="google",
        system="Google",
        signature="evaluate(example, response)",
        marks=(("example",), ("response",)),
        payload=payloads.google,
        names=("example", "response"),
        read=results.clipped,
        positional=True,
    ),
    Style(
        name="predibase",
        system="Predibase",
        signature="f(prompt, completion, example)",
        marks=(("prompt",), ("completion",), ("example",)),
        types={"completion": "str"},
        payload=payloads.predibase,
        names=("prompt", "completion", "example"),
        positional=True,
    ),
    Style(
        name="inspect_ai",
        system="inspect_ai, @scorer",
        signature="async score(state, target)",
        marks=(("state",), ("target",)),
        payload=payloads.inspect_ai,
        names=("state", "target"),
        read=results.inspect_score,
        positional=True,
        needs_rollout=True,
    ),
    Style(
        name="reasoning_gym",
        system="reasoning-gym",
        signature="score_answer(answer, entry)",
        marks=(("answer",), ("entry",)),
        payload=payloads.reasoning_gym,
        names=("answer", "entry"),
        positional=True,
    ),
    Style(
        name="openai",
        system="OpenAI and Azure, python graders",
        signature="grade(sample, item)",
        marks=(("sample",), ("item",)),
        payload=payloads.openai,
        names=("sample", "item"),
        positional=True,
        needs_rollout=True,
    ),
    Style(
        name="plain",
        system="any function of the completion's text",
        signature="f(text)",
        marks=(("text", "output", "generation", "prediction", "string", "s"),),
        payload=payloads.plain,
        names=("completion",),
        positional=True,
    ),
)

STYLES: Mapping[str, Style] = {style.name: style for style in _ALL}
"""All styles except rft's own, by name."""
