"""Prepares the inputs of a run before a start: finds the base model, reads and checks tasks, loads graders.

All problems are reported together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rft.config import EvaluateConfig, RunConfig
from rft.config.paid_alone import paid_alone
from rft.data.rendering import Renderer, Tell
from rft.data.shots import Shots
from rft.data.splits import TaskSets
from rft.data.training_rows import TrainingRows
from rft.episodes.contract import LoadedEnvironment
from rft.episodes.conversation import Tools
from rft.errors import DataError, UsageError
from rft.grading import LoadedGrader, load_grader
from rft.grading.models.model_grader import model_problem
from rft.models.base_model import LOCAL_NAMES, fingerprint, load_tokenizer, locate, read_config
from rft.models.quantized_folder import Quantization, quantized_by
from rft.models.weight_files import read_weights
from rft.run.base_models.measured_adapter import measured_adapter_problems
from rft.run.base_models.start_adapter import Parent, parent_problems, parent_warnings, read_parent
from rft.run.forecast.context import context_of
from rft.run.inputs.family_tasks import first_tasks, graders_of
from rft.run.inputs.fitting import Fitted, Fitter, Reuse, check_enough, collect, split_warnings
from rft.run.inputs.grounded_tasks import Grounded, with_longest_passage
from rft.run.inputs.row_inputs import row_renderer
from rft.run.inputs.task_sets import load_tasks
from rft.run.playing.environment import environment_of, prove_template, score_problems, tool_warnings
from rft.run.playing.tool_facts import server_warnings
from rft.run.reporting.sinks import SinkClass, load_sink
from rft.run.teachers.read_teachers import Teacher, read_teachers, require_room
from rft.run_folder.recorder import refuse_output
from rft.sampling.stops import model_stops
from rft.storage import Place, check_place
from rft.types import Adapter, Policy, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")
TryGraders = Callable[[Sequence[LoadedGrader], Sequence[Task]], object]
"""Tries graders on a task before a start. Raises `UsageError` if a grader fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The checked inputs of a run."""

    model: Path
    """Folder of the base model."""
    model_name: str
    """Name of the base model in the adapter: its hub id or folder."""
    base: Policy
    """The base model as a policy."""
    context_tokens: int
    """Prompt and completion together."""
    tokenizer: PreTrainedTokenizerBase
    """The base model's, with the chat template of the run."""
    parent: Parent | None = None
    """The policy that the run starts from; None for the base model."""
    teachers: tuple[Teacher, ...] = ()
    """The teachers of a run that distils; empty for other runs."""
    quantization: Quantization | None = None
    """Method and origin of a quantized base model (`learner.base`); None for other runs."""
    renderer: Renderer
    """From a task to the token ids of its prompt."""
    tasks: TaskSets
    """The tasks, without those whose prompts are too long, if the configuration drops them."""
    grounded: Grounded | None = None
    """How the tasks got their passages; None without a store."""
    num_long_prompts: int
    """Number of dropped tasks."""
    longest_prompt_tokens: int
    """Longest prompt of the remaining tasks, in tokens."""
    rows: TrainingRows | None = None
    """Renders demonstrations or preferences; None if the learner learns from sampled completions."""
    longest_row_tokens: int = 0
    """Longest sequence of the demonstrations or preferences, in tokens."""
    warnings: tuple[str, ...] = ()
    """Warnings about valid but unusual settings."""
    graders: tuple[LoadedGrader, ...]
    """The graders."""
    environment: LoadedEnvironment | None = None
    """The environment; None samples one completion for each prompt."""
    call_form: Tools | None = None
    """How the model calls tools; None without an environment, or if no form of its calls is known."""
    end_ids: frozenset[int] = frozenset()
    """The model's end tokens."""
    sinks: Mapping[str, SinkClass]
    """Classes of `logging.sinks`, by their entry there."""

    @property
    def held_out(self) -> list[Task]:
        """Return the tasks measured before and after the run: the test tasks, or else the validation tasks."""
        return self.tasks.test or self.tasks.validation

    @property
    def rank_below(self) -> int:
        """Return the rank of a frozen adapter below the trained one; 0 without one."""
        return self.parent.rank_below if self.parent else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs before their prompts are rendered."""

    config: RunConfig | EvaluateConfig
    """The configuration."""
    model: Path
    """Folder of the base model."""
    context_tokens: int
    """Prompt and completion together."""
    tokenizer: PreTrainedTokenizerBase
    """The base model's, with the chat template of the run."""
    parent: Parent | None
    """The policy that the run starts from; None for the base model."""
    teachers: tuple[Teacher, ...]
    """The teachers of a run that distils; empty for other runs."""
    quantization: Quantization | None = None
    """Method and origin of a quantized base model (`learner.base`); None for other runs, and before it is written."""
    tasks: TaskSets
    """All tasks, including those whose prompts are too long."""
    shots: Shots | None
    """The worked examples before every prompt; None without `data.shots`."""
    grounded: Grounded | None
    """How the tasks got their passages; None without a store."""
    graders: tuple[LoadedGrader, ...]
    """The graders."""
    environment: LoadedEnvironment | None
    """The environment; None samples one completion for each prompt."""
    sinks: Mapping[str, SinkClass]
    """Classes of `logging.sinks`, by their entry there."""
    reuse: Reuse
    """Cache of prompt lengths of other configurations."""


def read_inputs(
    config: RunConfig | EvaluateConfig,
    *,
    needs_training_tasks: bool,
    output: Path | None = None,
    reuse: Reuse | None = None,
    try_graders: TryGraders | None = None,
    adapter: Adapter | None = None,
) -> Inputs:
    """Find, read and check all inputs of a configuration. This takes a second or two.

    Args:
        config: A checked configuration.
        needs_training_tasks: Whether to read `data.train`.
        output: Folder for a new run, which must be usable.
        reuse: Cache shared with other configurations.
        try_graders: Called with valid graders, and the first task of each family that they score.
        adapter: The adapter of an evaluation.

    Raises:
        UsageError: Contains all problems of model, task files, graders and folder.
    """
    reuse = reuse or Reuse()
    problems: list[str] = []
    if output is not None:
        collect(problems, lambda: refuse_output(output))
    model = collect(problems, lambda: locate(config.model.path or ""))
    of_environment: list[str] = []
    environment = collect(of_environment, lambda: environment_of(config))
    # Loading a tokenizer takes most of the time, so a mistake in a tool is told before.
    tokenizer = collect(problems, lambda: _tokenizer(config, model)) if model and not of_environment else None
    context = collect(problems, lambda: context_of(config, model)) if model else None
    problems += _model_problems(config, model, adapter) if model else []
    parent = _read_parent(config, model, reuse, problems) if isinstance(config, RunConfig) else None
    teachers = collect(problems, lambda: read_teachers(config, tokenizer, partial(_fingerprint, reuse=reuse)))
    tasks, shots, grounded = load_tasks(config, needs_training_tasks, reuse, problems)
    graders, usable = _load_graders(config.graders, problems)
    _try_on_first_tasks(try_graders, usable, tasks, config, problems)
    problems += [*of_environment, *_score_problems(config, environment, tasks)]
    sinks = _load_sinks(config, problems)
    if problems or model is None or tokenizer is None or context is None or tasks is None or None in graders:
        raise UsageError("the run cannot start", problems)
    return Inputs(
        config=config,
        model=model,
        context_tokens=context,
        tokenizer=tokenizer,
        parent=parent,
        teachers=teachers or (),
        quantization=quantized_by(config.learner.base, model) if isinstance(config, RunConfig) else None,
        tasks=tasks,
        shots=shots,
        grounded=grounded,
        graders=tuple(grader for grader in graders if grader is not None),
        environment=environment,
        sinks=sinks,
        reuse=reuse,
    )


def _tokenizer(config: RunConfig | EvaluateConfig, model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(model, config.model.chat_template, needs_template=config.data.format == "chat")


def _score_problems(
    config: RunConfig | EvaluateConfig, environment: LoadedEnvironment | None, tasks: TaskSets | None
) -> list[str]:
    """Return why episodes could have no reward or no prompt."""
    if environment is None or tasks is None:
        return []
    return score_problems(config, environment, [*tasks.train, *tasks.validation, *tasks.test])


def _try_on_first_tasks(
    try_graders: TryGraders | None,
    graders: Sequence[LoadedGrader],
    tasks: TaskSets | None,
    config: RunConfig | EvaluateConfig,
    problems: list[str],
) -> None:
    """Try graders on the first task of each family that they score, if there is any; collect their problems."""
    if tasks is None or try_graders is None:
        return
    tried: dict[tuple[str, ...], list[Task]] = {}
    for task in first_tasks(config, tasks):
        tried.setdefault(tuple(one.name for one in graders if one.name in graders_of(config, task)), []).append(task)
    for names, of_these in tried.items():  # one process for all families with the same graders
        if own := [grader for grader in graders if grader.name in names]:
            collect(problems, partial(try_graders, own, of_these))


def _model_problems(config: RunConfig | EvaluateConfig, model: Path, adapter: Adapter | None) -> list[str]:
    """Return the reasons why the sampler cannot serve a model, or the learner cannot train it, one sentence each."""
    if isinstance(config, EvaluateConfig):
        problems = config.sampler.model_problems(read_config(model), with_adapter=adapter is not None)
        return problems + measured_adapter_problems(config, adapter, model)
    method = config.learner.adapter
    problems = config.sampler.model_problems(read_config(model), with_adapter=method.publishes == "adapter")
    return problems + (method.model_problems(read_weights(model).tensors) if config.learner.trains_a_model else [])


def _read_parent(run: RunConfig, model: Path | None, reuse: Reuse, problems: list[str]) -> Parent | None:
    """Return the policy that the run starts from, or None; collect its problems."""
    parent = collect(problems, lambda: read_parent(run))
    if parent is not None and model is not None and run.learner.trains_a_model:
        problems += parent_problems(parent, model, _fingerprint(model, reuse), run.sampler, quantizes=run.learner.base)
    return parent


def _fingerprint(model: Path, reuse: Reuse) -> str:
    return reuse.get(("base", model), lambda: fingerprint(model))


def _load_graders(
    entries: Mapping[str, Mapping[str, Any]], problems: list[str]
) -> tuple[list[LoadedGrader | None], list[LoadedGrader]]:
    """Return the graders, None for each that cannot be loaded, and those whose models can be read as well."""
    graders = [collect(problems, lambda item=item: load_grader(*item)) for item in entries.items()]  # type: ignore[misc]
    without_model = {grader.name: problem for grader in graders if grader and (problem := model_problem(grader))}
    problems += without_model.values()
    return graders, [grader for grader in graders if grader and grader.name not in without_model]


def render_prompts(inputs: Inputs, tell: Tell | None = None) -> Prepared:
    """Render every prompt, and check that it leaves room for a completion. With many tasks this takes long.

    Args:
        inputs: From `read_inputs`.
        tell: Receives the number of rendered prompts.

    Raises:
        DataError: The chat template refuses prompts, or some are too long.
    """
    config, path = inputs.config, inputs.config.model.path or ""
    renderer = _renderer(inputs)
    rows = row_renderer(config, inputs.model, inputs.tokenizer, renderer)
    end_ids = model_stops(inputs.model, inputs.tokenizer).ids
    tools = (
        prove_template(config, inputs.environment, renderer, inputs.tokenizer, end_ids) if inputs.environment else None
    )
    fitted = _fitted(inputs, renderer, rows, tell)
    check_enough(fitted.tasks.train, config)
    require_room(inputs.teachers, fitted.longest_prompt, config.sampler.max_completion_tokens)
    return Prepared(
        model=inputs.model,
        model_name=path if not (os.path.exists(path) or path.startswith(LOCAL_NAMES)) else str(inputs.model.resolve()),
        base=Policy(version=0, fingerprint=_fingerprint(inputs.model, inputs.reuse)),
        parent=inputs.parent,
        teachers=inputs.teachers,
        quantization=inputs.quantization,
        context_tokens=inputs.context_tokens,
        tokenizer=inputs.tokenizer,
        renderer=renderer,
        tasks=fitted.tasks,
        grounded=inputs.grounded,
        num_long_prompts=fitted.num_dropped,
        longest_prompt_tokens=fitted.longest_prompt,
        rows=rows,
        longest_row_tokens=inputs.context_tokens if inputs.environment else fitted.longest_row,
        graders=inputs.graders,
        environment=inputs.environment,
        call_form=tools,
        end_ids=end_ids,
        sinks=inputs.sinks,
        warnings=(
            *split_warnings(inputs.tasks, config),
            *(inputs.grounded.warnings if inputs.grounded else ()),
            *(tool_warnings(config, inputs.environment, renderer) if inputs.environment else ()),
            *server_warnings(config.tools),
            *paid_alone(config.graders),
            *(parent_warnings(inputs.parent, renderer.template_sha256) if inputs.parent else ()),
            *(warning for teacher in inputs.teachers for warning in teacher.warnings),
        ),
    )


def _fitted(inputs: Inputs, renderer: Renderer, rows: TrainingRows | None, tell: Tell | None) -> Fitted:
    """Return the tasks that fit into the context."""
    fitter = Fitter(
        config=inputs.config,
        model=inputs.model,
        context_tokens=inputs.context_tokens,
        renderer=renderer,
        rows=rows,
        reuse=inputs.reuse,
        tell=tell,
    )
    try:
        return fitter.fit(inputs.tasks)
    except DataError as error:
        raise with_longest_passage(error, inputs.grounded) from error


def _renderer(inputs: Inputs) -> Renderer:
    return Renderer(
        inputs.tokenizer,
        format=inputs.config.data.format,
        variables=inputs.config.model.chat_template_kwargs,
        shots=inputs.shots,
        tools=(inputs.environment.tools or None) if inputs.environment else None,
    )


def prepare(
    config: RunConfig | EvaluateConfig,
    *,
    needs_training_tasks: bool,
    output: Path | None = None,
    tell: Tell | None = None,
    reuse: Reuse | None = None,
    try_graders: TryGraders | None = None,
    adapter: Adapter | None = None,
) -> Prepared:
    """Run `read_inputs` and `render_prompts`, if nothing must start in between.

    Raises:
        UsageError: Like both functions.
    """
    inputs = read_inputs(
        config,
        needs_training_tasks=needs_training_tasks,
        output=output,
        reuse=reuse,
        try_graders=try_graders,
        adapter=adapter,
    )
    return render_prompts(inputs, tell)


def _load_sinks(config: RunConfig | EvaluateConfig, problems: list[str]) -> dict[str, SinkClass]:
    """Return the classes of the user's sinks; collect their problems, and those of the storage."""
    if isinstance(config, EvaluateConfig):
        return {}
    if storage := config.storage:
        collect(problems, lambda: check_place(Place(storage), Path(config.output_dir)))
    uses = config.logging.sinks
    loaded = {use: collect(problems, lambda use=use: load_sink(use)) for use in uses}  # type: ignore[misc]
    return {use: sink for use, sink in loaded.items() if sink is not None}
