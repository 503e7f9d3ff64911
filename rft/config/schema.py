"""Defines every configuration key with its type, default and meaning.

The files in `conf/` choose values. All code after composition receives these types, and importing this module loads
neither torch, Ray, vLLM nor TRL.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from rft.config.clusters import Cluster, LocalClusterConfig
from rft.config.environment import EnvironmentConfig, with_environment_score
from rft.config.evaluation import EvaluationConfig
from rft.config.families import CurriculumConfig, FamilyConfig
from rft.config.feasibility import FeasibilityConfig
from rft.config.fields import (
    FileOrUrl,
    FolderName,
    NotNegative,
    Number,
    Positive,
    PositiveSeconds,
    Section,
    Share,
    Whole,
)
from rft.config.learners import Learner
from rft.config.pass_rate import PassRateConfig
from rft.config.phases import Phase
from rft.config.retrieval import NoRetrievalConfig, Retrieval
from rft.config.samplers import Sampler
from rft.config.teacher import TeacherConfig
from rft.config.tools import Tools
from rft.config.trackers import LoggingConfig
from rft.redaction import sealed


def _with_sealed_secrets(graders: dict[str, dict[str, Any]]) -> Any:
    """Turn secrets among the options of graders into `Secret` objects."""
    return sealed({"graders": graders})["graders"]


Graders = Annotated[dict[str, dict[str, Any]], AfterValidator(_with_sealed_secrets)]


class ModelConfig(Section):
    """The base model."""

    path: str | None = None
    """A folder with a Hugging Face model, a hub id such as `Qwen/Qwen2.5-0.5B-Instruct`, `package:<Python package>`, or
    `embedded:tiny`."""
    chat_template: str | None = None
    """A Jinja file with a chat template, or the name of a template of rft: `chatml`, `llama3`, `question_answer`,
    `user_assistant`. It replaces the tokenizer's own template."""
    chat_template_kwargs: dict[str, Any] = {}
    """Variables of the chat template by name, such as `{enable_thinking: false}`, in training and evaluation alike."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the base model's weights; `auto` is float32 on a CPU and bfloat16 on a GPU."""
    response_template: str | None = None
    """A JSON file with a response template of Transformers, which says how the model writes tool calls; null takes the
    tokenizer's, or one that reads the calls of the chat template."""
    call_open: str | None = None
    """Text before a tool call, such as `<call>`, in place of a response template; with `call_close`."""
    call_close: str | None = None
    """Text after a tool call, such as `</call>`."""
    max_context_tokens: Positive | None = None
    """Longest prompt and completion together, in tokens; null takes the model's own limit."""

    def weights_dtype(self, *, on_gpu: bool) -> str:
        """Return the number format of the base model's weights on a GPU or a CPU."""
        return self.dtype if self.dtype != "auto" else "bfloat16" if on_gpu else "float32"


class DataConfig(Section):
    """The tasks."""

    train: str | None = None
    """A `.jsonl`, `.csv`, `.tsv` or `.parquet` file (text also as `.gz`), a hub dataset `owner/name[/config]:split`, or
    `embedded:family/split`."""
    validation: str | None = None
    """Tasks measured during the run."""
    test: str | None = None
    """Tasks measured before and after the run; null measures the validation tasks instead."""
    validation_share: Share = 0.0
    """Share of the training tasks that become validation tasks if `data.validation` is not given."""
    group_by: str | None = None
    """Column whose values must not be in two of the three sets, such as the customer; null compares prompts alone."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{prompt: question}`."""
    format: Literal["chat", "raw"] = "chat"
    """`chat` renders prompts with the chat template; `raw` sends the column `prompt` to the model as it is."""
    system: str | None = None
    """System message for prompts without one."""
    mixture: dict[str, FamilyConfig] = {}
    """Task families by name, instead of `train`, `validation` and `test`. See docs/data.md."""
    temperature: Annotated[Number, Field(gt=0)] = 1.0
    """T in the share n^(1/T) of a family with n training tasks. 1 is proportional; higher values even shares out."""
    replay: Share = 0.0
    """Share of each step that comes from the families with `older`; 0 only measures them."""
    curriculum: CurriculumConfig | None = None
    """Gives a larger share to families whose rewards differ within groups; null keeps the shares."""
    allow_overlap: bool = False
    """Whether a prompt of the training tasks may also be a validation or test prompt."""
    long_prompts: Literal["error", "drop"] = "error"
    """Treatment of prompts that leave no room for a completion, and of demonstrations longer than the context."""
    check_demonstrations: bool = False
    """Whether to grade the answers of demonstrations before the first step, and to list those that score below the best
    of them."""
    shots: NotNegative = 0
    """Worked examples that precede every prompt in training, measurements and samples. A hash of seed and prompt draws
    them from the training tasks; no prompt shows its own answer."""
    shot_answer: str | None = None
    """Column of the training tasks with the answer that a worked example shows; null takes `completion`, or else
    `answer`. A demonstration shows its own answer."""


class LoopConfig(Section):
    """The training loop."""

    steps: Positive = 100
    """Optimizer steps."""
    num_epochs: Annotated[Number, Field(gt=0)] | None = None
    """Passes over the training tasks, in place of `steps`; null takes `steps`."""
    prompts_per_step: Positive = 8
    """Tasks sampled in each step."""
    completions_per_prompt: Positive = 8
    """Completions sampled for each task. Their rewards are compared within this group."""
    staleness: Annotated[Whole, Field(ge=0, le=16)] = 0
    """Policy versions that the samplers run ahead of the learner. 0 is strictly on-policy. With 1 or more, sampling and
    grading overlap with learning, and importance weights correct for the difference."""
    refill_rounds: NotNegative = 0
    """Number of times that a step may replace groups of equal rewards by newly sampled groups; 0 keeps them."""
    pass_rate: PassRateConfig | None = None
    """Excludes training tasks that are too easy or too hard; null keeps all."""
    checkpoint_every_steps: Positive = 50
    """Steps between two checkpoints; the end of the run adds another."""
    keep_checkpoints: Positive = 2
    """Number of checkpoints kept; older ones are removed."""
    notice: FileOrUrl | None = None
    """A file or an address that announces the end of this machine; rft then saves, and exits with code 75."""
    stop_timeout_s: PositiveSeconds = 60.0
    """Seconds for the current step after `notice`, SIGTERM or SIGHUP; then rft drops a step still being sampled."""


class GradingConfig(Section):
    """Execution of graders."""

    max_concurrency: Positive = 64
    """Completions graded at the same time."""
    num_workers: Positive | None = None
    """Worker processes for synchronous graders; null takes one less than the number of cores, and at least 2."""
    worker_memory_mb: Positive | None = 4096
    """Memory in MiB that a worker process may use on top of the loaded graders. A call that needs more fails with a
    MemoryError, and its completion gets no reward; null sets no limit."""
    cache_folder: str | None = None
    """Folder that keeps the scores of deterministic graders, so that no input is graded twice; null keeps none."""
    max_fault_share: Annotated[Number, Field(ge=0, le=1)] = 0.1
    """Largest share of recent completions on which a grader may fail before the run ends."""
    fault_window_completions: Positive = 200
    """Number of recent completions over which `max_fault_share` is computed."""
    audit_folder: str | None = ".rft/audits"
    """Folder in which `rft audit` stores verdicts for `rft train`; null stores and checks none."""


class EvaluateConfig(Section):
    """A measurement of a base model or an adapter on a task file: `rft evaluate`."""

    seed: Whole = 0
    """Seed of all random numbers."""
    name: FolderName = "evaluate"
    """Name of the run, part of the default run folder."""
    output_dir: str
    """The run folder; it must not contain a run."""
    dry_run: bool = False
    """Run every check that needs no start, print the plan and stop."""
    adapter: str | None = None
    """A run folder or an adapter folder; null measures the base model alone."""
    model: ModelConfig
    data: DataConfig
    retrieval: Retrieval = NoRetrievalConfig()
    sampler: Sampler
    environment: EnvironmentConfig = EnvironmentConfig()
    tools: Tools = {}
    """Tools by name, which the policy may call; they are an environment of their own."""
    graders: Graders
    """Graders by name. `use` selects a grader, `weight` is its share of the reward, and other keys are its options."""
    grading: GradingConfig = GradingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: Cluster = LocalClusterConfig()

    _add_score = model_validator(mode="before")(with_environment_score)


class MergeModelConfig(Section):
    """The base model, and the format of the merged model."""

    path: str | None = None
    """The base model, like `model.path` of a run; null takes the adapter's base model."""
    chat_template: str | None = None
    """A file with a Jinja chat template for the merged model; null takes that of the adapter or of the base model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the merged weights; `auto` keeps that of the base model. 16 bits round small updates away."""


class MergeConfig(Section):
    """An adapter merged into its base model: `rft merge`."""

    adapter: str | None = None
    """A run folder, an adapter folder or a checkpoint folder."""
    output_dir: str
    """Folder for the merged model; it must not exist."""
    dry_run: bool = False
    """Read the adapter, find the base model, and stop."""
    model: MergeModelConfig = MergeModelConfig()


class CompletionsConfig(Section):
    """Recorded completions."""

    completions: str | None = None
    """A run folder, or a `.jsonl`, `.csv`, `.tsv` or `.parquet` file; `data=<file>` sets it, too."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{completion: text, prompt: question}`."""
    phase: Phase | None = None
    """Phase of a run whose completions are graded; null grades all."""


class GradeConfig(Section):
    """Grading recorded completions: `rft grade`."""

    name: FolderName = "grade"
    """Name of the grading, part of the default output folder."""
    output_dir: str
    """Folder for the scores; it must not contain a run."""
    dry_run: bool = False
    """Run every check that needs no start, print the plan and stop."""
    data: CompletionsConfig
    graders: Graders
    """Graders by name. `use` selects a grader, `weight` is its share of the reward, and other keys are its options."""
    grading: GradingConfig = GradingConfig()


class AuditDataConfig(Section):
    """The tasks of an audit."""

    tasks: str | None = None
    """A `.jsonl`, `.csv`, `.tsv` or `.parquet` file, a hub dataset, or `embedded:family/split`; also `data=<file>`."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{prompt: question}`."""
    max_tasks: Positive = 30
    """Number of tasks used, from the first."""


class AuditConfig(Section):
    """Probing graders, or an environment, before training: `rft audit`."""

    _add_score = model_validator(mode="before")(with_environment_score)

    name: FolderName = "audit"
    """Name of the audit, part of the default output folder."""
    output_dir: str
    """Folder for the report; it must not contain a run."""
    dry_run: bool = False
    """Run every check that needs no start, print the plan and stop."""
    data: AuditDataConfig
    gold: str = "answer"
    """The tasks' column with the reference."""
    template: str | None = None
    """Form of a complete answer, such as `<plan></plan> {answer}`, if the graders accept none of the usual formats."""
    retrieval: Retrieval = NoRetrievalConfig()
    """Store of passages that the tasks show. See docs/retrieval.md."""
    completions: str | None = None
    """Recorded completions of the base model, a run folder or a file, for the probes of the training signal."""
    completions_per_prompt: Annotated[Whole, Field(ge=2)] = 8
    """Completions of one prompt in the planned run."""
    completions_per_step: Positive = 64
    """Completions, or episodes, of one step in the planned run."""
    environment: EnvironmentConfig = EnvironmentConfig()
    """An environment to audit instead of graders. See docs/environments.md."""
    tools: Tools = {}
    """Tools to audit as an environment of their own."""
    graders: Graders = {}
    """Graders by name. `use` selects a grader, `weight` is its share of the reward, and other keys are its options."""
    grading: GradingConfig = GradingConfig()


def _on_or_off(value: Any) -> Any:
    """Return `off` for false, since YAML reads `off` as false."""
    return {False: "off"}.get(value, value) if isinstance(value, bool) else value


class ServeConfig(Section):
    """An HTTP service of graders: `rft serve-grader`."""

    host: str = "127.0.0.1"
    """Address to listen on; the default accepts requests only from this machine."""
    port: Annotated[Whole, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    token_env: str | None = None
    """Environment variable with the token that requests must send as `Authorization: Bearer <token>`; null requires no
    token, which is possible only on a loopback address."""
    allowed_hosts: list[str] = []
    """Names of this service in the header `Host`, besides loopback names and `host`. An empty list allows any name on
    other addresses than loopback, where the token protects the service."""
    max_completions: Positive = 4096
    """Maximum number of completions in one request."""
    request_timeout_s: PositiveSeconds = 300.0
    """Seconds allowed for grading one request."""
    graders: Graders
    """Graders by name. `use` selects a grader, `weight` is its share of the reward, and other keys are its options."""


class SearchConfig(Section):
    """A search for good settings."""

    space: dict[str, Any] = {}
    """Values to search, by key of `rft train`, in Hydra's syntax: `tag(log, interval(1e-5, 1e-3))`, `choice(4, 8)`,
    `range(1, 9)`, `int(interval(4, 32))`. Keys with several values on the command line are added."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether a higher or a lower held-out score is better."""
    trials: Positive = 20
    """Number of trials, including those before a resume."""
    parallel: Positive | None = None
    """Trials that run at the same time; null lets rft decide. With fewer, each trial learns from more earlier ones."""
    startup_trials: Positive = 5
    """Number of trials with random settings; pruning starts after this number of finished trials."""
    prune: bool = True
    """Whether a trial ends early if its validation tasks score below the median of the earlier trials."""
    seed: Whole = 0
    """Seed of the search; each run has its own."""


class SweepConfig(Section):
    """A search: `rft sweep`. It also takes the keys of `rft train`, and passes them to every trial."""

    output_dir: str | None = None
    """Folder of the sweep, with the run folders of the trials; null takes `runs/<name>/sweep_<time>`."""
    resume: str | None = None
    """Folder of a sweep to continue."""
    or_resume: bool = False
    """Whether to continue the sweep in `output_dir` if it has begun; also as `--or-resume`."""
    dry_run: bool = False
    """Run every check that needs no start, print the plan and stop."""
    sweep: SearchConfig = SearchConfig()


class RunConfig(Section):
    """A training run: `rft train`."""

    seed: Whole = 0
    """Seed of all random numbers: task order, sampling, LoRA's initial weights."""
    name: FolderName = "run"
    """Name of the run, part of the default run folder."""
    output_dir: str
    """The run folder; it must not contain a run."""
    resume: str | None = None
    """A run folder, or its copy in storage, to continue from its last checkpoint with its own configuration."""
    or_resume: bool = False
    """Whether to continue the run in `output_dir`, or else its copy, if it has begun; also as `--or-resume`."""
    start: str | None = None
    """A run folder, adapter folder or checkpoint folder whose policy this run starts from; null starts from the base
    model. Results before the run, and the KL divergence, then refer to that policy."""
    start_mode: Literal["continue", "merge", "stack"] = "continue"
    """Use of the adapter of `start`: `continue` trains it further; `merge` merges it into the base model, once, and
    trains on the result; `stack` freezes it and trains a new adapter on top, and publishes the sum of both."""
    storage: str | None = None
    """Path or address for a copy of the run, any that fsspec supports, such as `s3://bucket/runs`. rft updates the copy
    after each checkpoint and at the end of the run; null makes no copy."""
    storage_timeout_s: PositiveSeconds = 1800.0
    """Seconds allowed for one update of the copy, and for fetching a run from it."""
    dry_run: bool = False
    """Run every check that needs no start, print the plan and stop, like `rft check`."""
    audit: Annotated[Literal["refuse", "warn", "off"], BeforeValidator(_on_or_off)] = "refuse"
    """Reaction to a failed last `rft audit` of these graders: refuse to start, warn, or ignore it."""
    feasibility: FeasibilityConfig = FeasibilityConfig()
    model: ModelConfig
    data: DataConfig
    retrieval: Retrieval = NoRetrievalConfig()
    loop: LoopConfig = LoopConfig()
    sampler: Sampler
    learner: Learner
    teacher: TeacherConfig = TeacherConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    tools: Tools = {}
    """Tools by name, which the policy may call; they are an environment of their own."""
    graders: Graders
    """Graders by name. `use` selects a grader, `weight` is its share of the reward, and other keys are its options."""
    grading: GradingConfig = GradingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    logging: LoggingConfig = LoggingConfig()
    cluster: Cluster = LocalClusterConfig()

    _add_score = model_validator(mode="before")(with_environment_score)
