"""Checks a configuration across its fields, and reports all problems together before any process starts."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rft.config.arm_problems import arm_problems
from rft.config.environment import plays_episodes
from rft.config.environment_problems import audited_environment_problems, environment_problems
from rft.config.epochs import epoch_problems, staleness_problem
from rft.config.feasibility_problems import feasibility_problems
from rft.config.learner_problems import learner_problems
from rft.config.measurement_problems import measurement_problems
from rft.config.mixture import SPLITS, guard_problems, mixture_problems, sources, trained_families
from rft.config.overrides import to_words
from rft.config.schema import (
    AuditConfig,
    EvaluateConfig,
    GradeConfig,
    GradingConfig,
    MergeConfig,
    RunConfig,
    ServeConfig,
)
from rft.config.teacher_problems import teacher_problems
from rft.config.trackers import prometheus_problems, tracker_problems
from rft.data.sources import local_file
from rft.errors import UsageError
from rft.grading import grader_problems
from rft.grading.outbound.guard import is_loopback
from rft.grading.verdicts import FAILED, INCONCLUSIVE, Unaudited, unaudited, verdict_problems
from rft.models.adapter_folder import find_adapter, whole_model
from rft.models.base_model import refuse_place
from rft.redaction import hide_in_words, revealed
from rft.storage import address_problems

MODEL_PATH = (
    "a folder with a Hugging Face model, a hub id such as Qwen/Qwen2.5-0.5B-Instruct, package:<Python package>, or "
    "embedded:tiny"
)
TASK_FILE = "a .jsonl, .csv, .tsv or .parquet file or a hub dataset"

_SET_IN_TEMPLATES = frozenset(
    {
        "messages",
        "conversation",
        "tools",
        "chat_template",
        "add_generation_prompt",
        "continue_final_message",
        "tokenize",
    }
    | {"padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask"}
    | {"tokenizer_kwargs"}
)
"""Arguments of `apply_chat_template`, which a template cannot use as variables."""


MIN_TOKEN_CHARS = 16
"""Shortest token of `rft serve-grader`."""

_QUOTED = re.compile(r"='([A-Za-z_./][\w./:-]*)'$")
"""A quoted text at the end of an override that reads the same without quotes, such as a path."""


def run_problems(run: RunConfig) -> list[str]:
    """Return all problems of a training run, one sentence each."""
    return [
        *_data_problems(run),
        *mixture_problems(run),
        *environment_problems(run),
        *guard_problems(run),
        *_prompt_problems(run),
        *run.retrieval.problems(),
        *arm_problems(run),
        *_loop_problems(run),
        *run.sampler.problems(adapter=run.learner.adapter, staleness=run.loop.staleness),
        *learner_problems(run),
        *teacher_problems(run),
        *feasibility_problems(run),
        *(_graders_of_run_problems(run) or (audit_problems(run) if run.audit == "refuse" else [])),
        *tracker_problems(run.logging.report_to),
        *prometheus_problems(run.logging.prometheus_port),
        *(address_problems("storage", run.storage) if run.storage else []),
    ]


def place_problems(config: BaseModel) -> list[str]:
    """Return a configuration's missing files and folders, without reading them or asking the hub."""
    problems: list[str] = []
    if isinstance(config, RunConfig | EvaluateConfig):
        splits = SPLITS if isinstance(config, RunConfig) or config.data.shots else ("test",)
        files = {key: source for split in splits for key, source in sources(config.data, split).items()}
        if not (isinstance(config, RunConfig) and config.resume):  # a resumed run has the passages that it found
            files |= config.retrieval.files
        for key, source in files.items():
            try:
                local_file(source, key=key)
            except UsageError as error:
                problems += error.problems
        models = {"model.path": config.model.path}
        if isinstance(config, RunConfig):
            models |= {f"{key}.path": teacher.path for key, teacher in config.teacher.by_key.items()}
        for key, path in models.items():
            if not path:
                continue
            try:
                refuse_place(path, key)
            except UsageError as error:
                problems += error.problems
    adapters: dict[str, str | None] = {}
    if isinstance(config, RunConfig) and config.resume is None:  # a resumed run has copies of them
        adapters["start"] = None if starts_from_whole_model(config) else config.start
        adapters |= {f"{key}.adapter": teacher.adapter for key, teacher in config.teacher.by_key.items()}
    for key, adapter in adapters.items():
        if adapter is None:
            continue
        try:
            find_adapter(Path(adapter))
        except UsageError as error:
            problems += [f"{key}={adapter}: {problem}" for problem in error.problems]
    return problems


def starts_from_whole_model(run: RunConfig) -> bool:
    """Whether a run starts from a run that trained all weights, whose result needs no merge."""
    return run.start is not None and run.start_mode == "merge" and whole_model(Path(run.start)) is not None


def evaluate_problems(config: EvaluateConfig) -> list[str]:
    """Return all problems of an evaluation, one sentence each."""
    problems = _grader_problems(config.graders, config.evaluation.metric) + _prompt_problems(config)
    problems += mixture_problems(config) + environment_problems(config) + config.retrieval.problems()
    problems += arm_problems(config)
    if not (config.model.path or config.adapter):
        problems.append(f"model.path is missing: {MODEL_PATH}; or give adapter=<run folder>")
    if not sources(config.data, "test"):
        problems.append(f"data.test is missing: the tasks to measure on, {TASK_FILE}")
    if config.data.shots and not sources(config.data, "train") and config.adapter is None:
        problems.append(
            f"data.shots={config.data.shots}: data.train is missing: the training tasks with the worked examples, "
            f"{TASK_FILE}"
        )
    return problems


def play_problems(config: EvaluateConfig) -> list[str]:
    """Return all problems of an episode to play, one sentence each."""
    problems = evaluate_problems(config)
    if plays_episodes(config):
        return problems
    missing = (
        "environment.use is missing: the environment to play, such as my_env.py:guess; or an agent as "
        "environment.command, tools as tools.<name>.use, or experiment=calculator with all of them"
    )
    return [missing, *(problem for problem in problems if not problem.startswith("graders is empty"))]


def grade_problems(config: GradeConfig) -> list[str]:
    """Return all problems of a grading of recorded completions, one sentence each."""
    problems = _grader_problems(config.graders, "reward")
    if config.data.completions is None:
        problems.append(
            "data is missing: the completions to grade, a run folder or a .jsonl, .csv, .tsv or .parquet file"
        )
    return problems


def merge_problems(config: MergeConfig) -> list[str]:
    """Return all problems of a merge, one sentence each."""
    return [] if config.adapter else ["adapter is missing: a run folder or an adapter folder"]


def audit_config_problems(config: AuditConfig) -> list[str]:
    """Return all problems of an audit, one sentence each."""
    problems = audited_environment_problems(config)
    if not plays_episodes(config):
        problems += _grader_problems(config.graders, "reward")
    if config.data.tasks is None:
        problems.append(f"data is missing: the tasks to audit on, {TASK_FILE}; write data=tasks.jsonl")
    problems += config.retrieval.problems()
    if config.template is not None and "{answer}" not in config.template and "{json}" not in config.template:
        problems.append(f"template={config.template!r}: contains neither {{answer}} nor {{json}}; add one of them")
    return problems


def audit_problems(run: RunConfig) -> list[str]:
    """Return the problems that the last audit reported for valid graders of a run."""
    return verdict_problems(audit_folder(run.grading), run.graders)


def audit_warnings(run: RunConfig) -> list[str]:
    """Return one warning if users' own graders of a run have no verdict in their present state."""
    folder = audit_folder(run.grading)
    graders = unaudited(folder, run.graders) if folder is not None and run.audit != "off" else []
    if not graders:
        return []
    return [f"{'; '.join(map(_audit_state, graders))}; run: {_audit_command(run, {grader.name for grader in graders})}"]


def _audit_command(run: RunConfig, names: Collection[str]) -> str:
    """Return the command that audits a run's graders on its tasks; with a mixture, those of one family with `names`."""
    source, columns, graders = run.data.train, run.data.columns, run.graders
    for family in trained_families(run.data).values():
        if set(names) & set(family.graders):
            source, graders = family.source, {name: run.graders[name] for name in family.graders}
            columns = columns if family.columns is None else family.columns
            break
    settings: dict[str, Any] = {"graders": revealed(graders)}
    if columns:
        settings["data"] = {"columns": columns}
    if run.grading.audit_folder != GradingConfig.model_fields["audit_folder"].default:
        settings["grading"] = {"audit_folder": run.grading.audit_folder}
    store = []
    if run.retrieval.is_on:
        store = [f"retrieval={'mongodb_atlas' if run.retrieval.kind == 'mongodb' else run.retrieval.kind}"]
        settings["retrieval"] = run.retrieval.model_dump(exclude_defaults=True, exclude={"kind"})
    words = [_QUOTED.sub(r"=\1", word) for word in to_words([settings])]
    return shlex.join(["rft", "audit", *hide_in_words([f"data={source}", *store, *words], run.graders)])


def _audit_state(grader: Unaudited) -> str:
    name = f"graders.{grader.name} ({grader.function})"
    if grader.last is None:
        return f"{name} was never audited"
    if grader.last.verdict == INCONCLUSIVE:
        return f"{name}: its last audit ({grader.last.time}) was inconclusive"
    failed = f" on {', '.join(grader.last.failed)}" if grader.last.verdict == FAILED else ""
    return f"{name} has changed since its audit {grader.last.verdict}{failed} ({grader.last.time})"


def audit_folder(grading: GradingConfig) -> Path | None:
    """Return the folder of audit verdicts; None without one."""
    return Path(grading.audit_folder).expanduser() if grading.audit_folder else None


def serve_problems(config: ServeConfig) -> list[str]:
    """Return all problems of a grader service, one sentence each."""
    problems = _grader_problems(config.graders, "reward")
    variable = config.token_env
    if variable is not None and len(os.environ.get(variable, "").strip()) < MIN_TOKEN_CHARS:
        problems.append(
            f"token_env={variable}: the environment variable must hold a token of at least {MIN_TOKEN_CHARS} "
            "characters, such as the output of `openssl rand -hex 32`"
        )
    if variable is None and not is_loopback(config.host):
        problems.append(
            f"host={config.host}: other machines could use the service; name an environment variable with a token in "
            "token_env, or listen on 127.0.0.1"
        )
    return problems


def _prompt_problems(config: RunConfig | EvaluateConfig) -> list[str]:
    """Return problems of rendering prompts and sampling completions."""
    model, sampler = config.model, config.sampler
    problems = [
        f"model.chat_template_kwargs.{name}={value}: rft sets this itself; leave it out"
        for name, value in model.chat_template_kwargs.items()
        if name in _SET_IN_TEMPLATES
    ]
    if config.data.format == "raw":
        given = {
            "data.system": config.data.system,
            "model.chat_template": model.chat_template,
            "model.chat_template_kwargs": model.chat_template_kwargs,
        }
        problems += [
            f"{key}={value}: data.format=raw sends prompts as they are, without a chat template; leave it out, or use "
            "data.format=chat"
            for key, value in given.items()
            if value
        ]
    if config.data.shot_answer is not None and not config.data.shots:
        problems.append(
            f"data.shot_answer={config.data.shot_answer}: data.shots=0 shows no worked example; set data.shots, or "
            "leave it out"
        )
    if sampler.min_actors > sampler.num_actors:
        problems.append(
            f"sampler.min_actors={sampler.min_actors}: must be at most sampler.num_actors={sampler.num_actors}, or the "
            "run would never start"
        )
    temperatures = {"sampler.temperature": sampler.temperature} if isinstance(config, RunConfig) else {}
    temperatures["evaluation.temperature"] = config.evaluation.temperature
    return problems + sampler.temperature_problems(temperatures)


def _data_problems(run: RunConfig) -> list[str]:
    data = run.data
    problems = [] if run.model.path or run.start else [f"model.path is missing: {MODEL_PATH}"]
    if run.start is None and run.start_mode != "continue":
        problems.append(f"start_mode={run.start_mode}: there is no adapter to start from; give it in start")
    if data.train is None and not data.mixture:
        problems.append(f"data.train is missing: the training tasks, {TASK_FILE}")
    if data.validation is not None and data.validation_share > 0:
        problems.append(
            f"data.validation_share={data.validation_share}: data.validation={data.validation} is given as well; "
            "keep one of the two"
        )
    return problems


def _loop_problems(run: RunConfig) -> list[str]:
    loop = run.loop
    problems = []
    if not run.sampler.has_model and run.learner.trains_a_model:
        problems.append(
            f"sampler={run.sampler.kind}: a real learner cannot train on its token ids; use learner=fake as well"
        )
    if loop.num_epochs is None and loop.staleness >= loop.steps:
        problems.append(staleness_problem(loop.staleness, f"loop.steps={loop.steps}"))
    problems += epoch_problems(run)
    if loop.pass_rate is not None and loop.pass_rate.min >= loop.pass_rate.max:
        problems.append(
            f"loop.pass_rate.min={loop.pass_rate.min:g}: must be less than loop.pass_rate.max={loop.pass_rate.max:g}"
        )
    problems += measurement_problems(run)
    context = run.model.max_context_tokens
    if context is not None and run.sampler.max_completion_tokens >= context:
        problems.append(
            f"sampler.max_completion_tokens={run.sampler.max_completion_tokens}: leaves no room for a prompt in "
            f"model.max_context_tokens={context}"
        )
    return problems


def _graders_of_run_problems(run: RunConfig) -> list[str]:
    """Return the problems of a run's graders. A run that learns without rewards and measures nothing needs none."""
    held_out = sources(run.data, "validation") or sources(run.data, "test")
    is_measured = held_out or run.data.validation_share or run.loop.pass_rate
    learns_from_rewards = run.learner.takes == "groups" and not run.learner.has_teacher
    is_graded = learns_from_rewards or is_measured or run.data.check_demonstrations
    if not run.graders and not is_graded and run.evaluation.metric == "reward":
        return []
    return _grader_problems(run.graders, run.evaluation.metric)


def _grader_problems(graders: Mapping[str, Mapping[str, Any]], metric: str) -> list[str]:
    problems = [problem for name, spec in graders.items() for problem in grader_problems(name, spec)]
    if not graders:
        problems.append(
            "graders is empty: add at least one grader, such as graders.correct.use=exact or "
            "graders.concise.use=my_graders.py:concise"
        )
    elif metric != "reward" and metric not in graders:
        problems.append(f"evaluation.metric={metric}: use reward or a grader: {', '.join(graders)}")
    elif all(spec.get("weight", 1.0) == 0 for spec in graders.values()):
        problems.append("graders: every weight is 0, so every reward would be 0; give at least one grader a weight")
    return problems
