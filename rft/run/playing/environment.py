"""The environment of a configuration, and its tools."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rft.config import EvaluateConfig, RunConfig
from rft.config.environment import SCORE
from rft.data.continuation import Continuation, require_continuation
from rft.data.messages import has_prompt
from rft.data.rendering import Renderer
from rft.data.tool_proofs import call_parser, require_results, shows_tools
from rft.episodes.contract import LoadedEnvironment
from rft.episodes.conversation import Tools
from rft.episodes.loading import asks_never, command_environment, load_environment
from rft.episodes.tools.loading import load_tools
from rft.errors import DataError, UsageError
from rft.types import Task


def environment_of(config: RunConfig | EvaluateConfig) -> LoadedEnvironment | None:
    """Return the environment of a configuration; None without one.

    Raises:
        UsageError: It cannot be imported, or is no environment; or the tools have problems.
    """
    settings = config.environment
    if config.tools:
        try:
            return load_tools(config.tools, max_invalid_calls=settings.max_invalid_calls)
        except ValueError as error:
            raise UsageError("tools", str(error).splitlines()) from error
    if settings.command is not None:
        return command_environment(settings.command)
    if settings.use is None:
        return None
    try:
        environment = load_environment(settings.use, settings.options, settings.style)
        if asks_never(environment):
            raise ValueError("it never uses its 'policy', so no episode would have a turn; await policy(...) in it")
        return environment
    except ValueError as error:
        raise UsageError("environment", [f"environment.use={settings.use}: {error}"]) from error


def prove_template(
    config: RunConfig | EvaluateConfig,
    environment: LoadedEnvironment,
    renderer: Renderer,
    tokenizer: Any,
    end_ids: Collection[int],
) -> Tools | None:
    """Check that the chat template can carry the episodes of an environment, and return how the model calls tools.

    Args:
        config: The configuration.
        environment: Its environment.
        renderer: Renders the prompts of the run.
        tokenizer: The base model's.
        end_ids: The model's end tokens.

    Returns:
        The form of calls; None if none is known, and the run has no tools.

    Raises:
        DataError: The template appends no message to a turn, or no result to a call; or no parser reads its calls.
        UsageError: The response template cannot be read.
    """
    continuation = Continuation(renderer, end_ids)
    require_continuation(continuation)
    try:
        return _tools(config, environment, renderer, tokenizer, continuation)
    except DataError:
        if environment.tools:
            raise
        return None  # only an episode that brings its own tools needs them


def _tools(
    config: RunConfig | EvaluateConfig,
    environment: LoadedEnvironment,
    renderer: Renderer,
    tokenizer: Any,
    continuation: Continuation,
) -> Tools:
    model = config.model
    markers = None if model.call_open is None or model.call_close is None else (model.call_open, model.call_close)
    template = None if model.response_template is None else _read_template(model.response_template)
    return Tools(
        parser=call_parser(renderer, tokenizer, template=template, markers=markers),
        tokenizer=tokenizer,
        schemas=environment.tools,
        has_parallel=require_results(continuation, environment.tools),
        max_result_tokens={tool: config.tools[entry].max_result_tokens for tool, entry in environment.entry_of.items()},
    )


def tool_warnings(config: RunConfig | EvaluateConfig, environment: LoadedEnvironment, renderer: Renderer) -> list[str]:
    """Return a warning if the model is not told of its tools, and one if their score does not count."""
    warnings = []
    if environment.tools and not shows_tools(renderer, environment.tools):
        names = ", ".join(tool["function"]["name"] for tool in environment.tools)
        warnings = [f"the chat template does not show the tools ({names}) to the model; describe them in data.system"]
    if config.tools and environment.has_score and config.graders[SCORE].get("weight") == 0:
        warnings.append(
            "graders.environment.weight=0: the get_reward of the tools is reported and does not count; give it a "
            "weight beside the other graders"
        )
    return warnings


def _read_template(path: str) -> Any:
    try:
        return json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError("prompts", [f"model.response_template={path}: cannot be read as JSON: {error}"]) from error


def environment_facts(environment: LoadedEnvironment) -> dict[str, str]:
    """Return what identifies the code of an environment, for the manifest."""
    return {"use": environment.use, "sha256": environment.sha256}


def environment_changes(environment: LoadedEnvironment | None, begun: Mapping[str, str] | None) -> list[str]:
    """Return the environment if its code has changed since a run began."""
    if environment is None or begun is None or environment.sha256 == begun["sha256"]:
        return []
    return [f"the code of the environment ({environment.use})"]


def score_problems(
    config: RunConfig | EvaluateConfig, environment: LoadedEnvironment, tasks: Sequence[Task]
) -> list[str]:
    """Return why episodes of tools could have no reward or no prompt, one sentence each."""
    if not config.tools:
        return []
    problems = []
    if not environment.has_score and config.graders.get(SCORE, {}).get("weight", 1.0) != 0:
        problems.append(
            "graders: no tool has a get_reward, so episodes would have no reward; add graders of the final answer, "
            "such as graders.correct.use=exact, or a class with the method get_reward to the tools"
        )
    silent = [task for task in tasks if not has_prompt(task.messages)]
    if silent and not environment.speaks:
        problems.append(
            f"{silent[0].where or silent[0].id}: it has no prompt, and no tool has a reset that speaks first; add a "
            'column "prompt"'
        )
    return problems + [problem for require in environment.requires if (problem := _task_problem(require, tasks))]


def _task_problem(require: Callable[[Task], None], tasks: Sequence[Task]) -> str:
    """Return the problem of the first task that a tool refuses, with the number of all of them."""
    first, num_refused = "", 0
    for task in tasks:
        try:
            require(task)
        except ValueError as error:
            first = first or f"{task.where or task.id}: {error}"
            num_refused += 1
    return first + (f" (and so for {num_refused} of {len(tasks)} tasks)" if num_refused > 1 else "")
