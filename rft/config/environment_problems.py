"""Checks the environment of a run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence

from rft.config.environment import SCORE, EnvironmentConfig, plays_episodes
from rft.config.schema import AuditConfig, EvaluateConfig, RunConfig
from rft.config.tools import ToolConfig


def environment_problems(config: RunConfig | EvaluateConfig) -> list[str]:
    """Return the problems of the environment, one sentence each."""
    environment = config.environment
    problems = _tool_problems(config)
    scores = [name for name, spec in config.graders.items() if spec.get("use") == SCORE]
    if not plays_episodes(config):
        problems += [
            f"graders.{name}.use={SCORE}: the run has no environment; set environment.use or tools, or leave it out"
            for name in scores
        ]
    problems += _unused(environment)
    if not plays_episodes(config):
        return problems + _unplaced(environment)
    problems += _command_problems(environment)
    problems += _placement_problems(environment)
    if scores != [SCORE]:
        problems.append(
            f"graders: the environment's score is the grader '{SCORE}' with use={SCORE}, once; found {scores or 'none'}"
        )
    if isinstance(config, RunConfig):
        learner = config.learner
        if learner.takes != "groups" or learner.has_teacher:
            problems.append(_no_episodes(config))
        elif environment.credit == "turn":
            found = learner.turn_credit_problems(environment.discount)
            problems += [f"environment.credit=turn: {problem}" for problem in found]
        elif environment.discount != 1:
            problems.append(
                f"environment.discount={environment.discount:g}: has no effect with environment.credit=episode; use "
                "environment.credit=turn"
            )
    return problems


def _no_episodes(config: RunConfig) -> str:
    """Return the problem of a learner that cannot learn from episodes."""
    environment, learner = config.environment, config.learner
    given = environment.name if environment.is_on else f"tools: {', '.join(config.tools)}"
    kind, remedy = f"learner={learner.kind}", "use a learner that samples and grades, such as learner=grpo, ppo or raft"
    if key := {"preferences": "pairs", "labelled completions": "completions"}.get(learner.takes):
        kind, remedy = f"{kind} learner.{key}=recorded", f"use learner.{key}=sampled"
    where = "environment" if environment.is_on else "tools"
    return (
        f"{given}: {kind} does not learn from episodes; {remedy}, or leave {where} out; of a pipeline, set it for the "
        f"stages that can: stages.<stage>.{where}"
    )


def _tool_problems(config: RunConfig | EvaluateConfig) -> list[str]:
    """Return the problems of the tools."""
    model, problems = config.model, _entry_problems(config.environment, config.tools)
    if config.tools and config.data.format == "raw":
        problems.append("data.format=raw: shows the model no tools; use data.format=chat")
    if (model.call_open is None) is not (model.call_close is None):
        problems.append("model.call_open, model.call_close: give both, the texts before and after a call, or neither")
    if model.call_open and model.response_template:
        problems.append("model.call_open: model.response_template is given as well; keep one of the two")
    return problems


def _entry_problems(environment: EnvironmentConfig, tools: Mapping[str, ToolConfig]) -> list[str]:
    both = f"{environment.name}: tools are an environment of their own; leave out one of the two"
    named = [f"tools.{name}{problem}" for name, tool in tools.items() for problem in tool.problems()]
    return [both, *named] if tools and environment.is_on else named


def _unused(environment: EnvironmentConfig) -> list[str]:
    """Return the problems of keys that need `environment.use`."""
    if environment.use is not None:
        return []
    has_no_credit = environment.credit == "turn" and environment.command is None
    unused = {"options": environment.options, "style": environment.style, "credit": has_no_credit}
    return [
        f"environment.{key}: has no effect without environment.use; leave it out"
        for key, value in unused.items()
        if value
    ]


def _unplaced(environment: EnvironmentConfig) -> list[str]:
    """Return the problems of keys that need an environment or tools."""
    given = {"placement": environment.placement != "driver", "files": bool(environment.files)}
    return [
        f"environment.{key}: has no effect without environment.use or tools; leave it out"
        for key, is_set in given.items()
        if is_set
    ]


def _placement_problems(environment: EnvironmentConfig) -> list[str]:
    """Return the problems of processes on the nodes of the samplers."""
    if environment.placement == "driver":
        return ["environment.files: has no effect without environment.placement=samplers"] if environment.files else []
    if environment.command is not None:
        return [
            "environment.placement=samplers: a command runs on the driver's machine; leave the placement out, or bring "
            "a coroutine as environment.use"
        ]
    return [
        f"environment.files: there is no {os.path.abspath(os.path.expanduser(file))}"
        for file in environment.files
        if not os.path.exists(os.path.expanduser(file))
    ]


def _command_problems(environment: EnvironmentConfig) -> list[str]:
    if environment.command is None:
        return []
    if environment.use is not None:
        return ["environment.use and environment.command: each is a whole environment; set one of them"]
    try:
        words = shlex.split(environment.command)
    except ValueError as error:
        return [f"{environment.name}: cannot be split into words: {error}"]
    if not words:
        return ["environment.command is empty; name a program and its arguments, such as python agent.py"]
    if shutil.which(words[0]) is None:
        if os.path.isfile(words[0]):
            return [
                f"{environment.name}: {words[0]} may not be executed; begin with its program, as in python {words[0]}"
            ]
        return [f"{environment.name}: no program '{words[0]}' is in PATH; name it by its path"]
    script = _script(words)
    if script is not None and not os.path.isfile(script):
        return [f"{environment.name}: there is no file {os.path.abspath(script)}"]
    return []


def _script(words: Sequence[str]) -> str | None:
    """Return the file that a program is to run; None if the command does not tell."""
    if not re.fullmatch(r"python[0-9.]*|bash|sh|node|ruby|perl", os.path.basename(words[0])):
        return words[1] if words[1:] and words[1].endswith(".py") else None
    rest = list(words[1:])
    while rest and rest[0].startswith("-"):
        if rest[0] in ("-", "-c", "-e", "-m"):  # a program that is no file
            return None
        del rest[: 2 if rest[0] in ("-W", "-X", "-r") else 1]
    return rest[0] if rest else None


def audited_environment_problems(config: AuditConfig) -> list[str]:
    """Return the problems of an audit's environment, one sentence each."""
    if config.environment.command is not None:
        return [
            "environment.command: an audit plays environment.use or tools with scripted policies; a command needs a "
            "model, so try it with rft play"
        ]
    problems = _entry_problems(config.environment, config.tools) + _unused(config.environment)
    if not plays_episodes(config):
        return problems
    problems += [
        f"graders.{name}: an audit examines an environment or graders; leave the environment out to audit the graders"
        for name in config.graders
        if name != SCORE
    ]
    for key, value in (("template", config.template), ("completions", config.completions)):
        if value is not None:
            problems.append(f"{key}: has no effect in an audit of an environment; leave it out")
    return problems
