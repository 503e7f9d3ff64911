"""Every key of a run's configuration, with its type, its default and its meaning.

The files in `conf/` choose values; this file says which keys there are. Nothing past `rft.run.training` sees an untyped
configuration, and importing this module pulls in no torch, Ray, vLLM or TRL.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from rft.config.fields import (
    AbsoluteFolder,
    FolderName,
    NotNegative,
    Number,
    Positive,
    PositiveSeconds,
    Section,
    Share,
    Temperature,
    Whole,
)
from rft.config.learners import Learner
from rft.config.samplers import Sampler


class ModelConfig(Section):
    """The base model."""

    path: str | None = None
    """A folder with a Hugging Face model, a hub id such as `Qwen/Qwen2.5-0.5B-Instruct`, or `embedded:tiny`."""
    chat_template: str | None = None
    """A Jinja file with a chat template, or the name of one that ships with rft: `chatml`, `llama3`, `question_answer`,
    `user_assistant`. It is for a tokenizer that has none, or replaces its own."""
    chat_template_kwargs: dict[str, Any] = {}
    """Variables of the chat template by name, such as `{enable_thinking: false}`, in training and evaluation alike."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the base model's weights; `auto` is float32 on a CPU and bfloat16 on a GPU."""
    max_context_tokens: Positive | None = None
    """Longest prompt and completion together, in tokens; null takes the model's own limit."""


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
    """Share of the training tasks split off for validation, when `data.validation` is not given."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{prompt: question}`."""
    format: Literal["chat", "raw"] = "chat"
    """`chat` renders prompts with the chat template; `raw` sends the column `prompt` to the model as it is."""
    system: str | None = None
    """System message for every prompt that has none."""
    allow_overlap: bool = False
    """Whether a prompt of the training tasks may also be a validation or test prompt."""
    long_prompts: Literal["error", "drop"] = "error"
    """What to do with prompts that leave no room for a completion."""


class PassRateConfig(Section):
    """Selects training tasks by the mean reward that the base model gets for them before the first step."""

    completions_per_task: Positive = 4
    """Completions sampled for each training task to measure its mean reward."""
    min: Number = 0.1
    """Tasks with a lower mean reward are left out as too hard."""
    max: Number = 0.9
    """Tasks with a higher mean reward are left out as too easy."""


class LoopConfig(Section):
    """The training loop."""

    steps: Positive = 100
    """Optimizer steps."""
    prompts_per_step: Positive = 8
    """Tasks sampled in each step."""
    completions_per_prompt: Positive = 8
    """Completions sampled for each task. They form the group whose rewards are compared."""
    staleness: Annotated[Whole, Field(ge=0, le=16)] = 0
    """Policy versions that the samplers run ahead of the learner. 0 is strictly on-policy. With 1 or more, sampling and
    grading overlap with learning, and importance weights correct for the difference."""
    refill_rounds: NotNegative = 0
    """How many times a step may replace groups whose rewards are all equal by newly sampled ones; 0 keeps them."""
    pass_rate: PassRateConfig | None = None
    """Leaves out training tasks that are too easy or too hard; null keeps all."""
    checkpoint_every_steps: Positive = 50
    """Steps between two checkpoints; one more is written at the end."""
    keep_checkpoints: Positive = 2
    """Number of checkpoints kept; older ones are removed."""


class GradingConfig(Section):
    """How graders are run."""

    max_concurrency: Positive = 64
    """Completions graded at the same time."""
    num_workers: Positive | None = None
    """Worker processes for synchronous graders; null takes the number of cores less one, and at least 2."""
    cache_folder: str | None = None
    """Folder that keeps the scores of deterministic graders, so that no input is graded twice; null keeps none."""
    max_fault_share: Annotated[Number, Field(ge=0, le=1)] = 0.1
    """The run ends when a grader fails on a larger share of the last completions."""
    fault_window_completions: Positive = 200
    """Number of last completions that `max_fault_share` looks at."""
    audit_folder: str | None = ".rft/audits"
    """Folder in which `rft audit` keeps its verdicts and `rft train` looks for them; null does neither."""


class EvaluationConfig(Section):
    """Measuring on held-out tasks."""

    every_steps: Positive | None = 10
    """Steps between two measurements of the validation tasks; null measures them never."""
    completions_per_task: Positive = 1
    """Completions sampled for each held-out task."""
    temperature: Temperature = 1.0
    """Sampling temperature in evaluation; 0 takes the likeliest token."""
    metric: str = "reward"
    """`reward`, or the name of a grader."""
    max_validation_tasks: Positive | None = None
    """Number of validation tasks measured during the run, the first ones; null measures all."""


class LoggingConfig(Section):
    """Receivers of a run's events besides the run folder's own files and the terminal."""

    report_to: list[str] = ["tensorboard"]
    """Trackers: `tensorboard`, `wandb`, `mlflow`, `trackio`."""
    sinks: list[str] = []
    """Classes of your own with the methods `event` and `close`, such as `my_sinks.py:MySink`; docs/sinks.md describes
    them."""


class ClusterConfig(Section):
    """What all clusters share."""

    start_timeout_s: PositiveSeconds = 120.0
    """Seconds allowed for starting or joining Ray, and for a node's first answer."""
    placement_timeout_s: PositiveSeconds = 120.0
    """Seconds allowed until the cluster has room for every process; nodes may join and other runs may end meanwhile."""


class LocalClusterConfig(ClusterConfig):
    """Ray on this machine, started for the run and stopped at its end; it listens on loopback alone."""

    kind: Literal["local"] = "local"


class AttachClusterConfig(ClusterConfig):
    """A Ray cluster that is already running, and keeps running after the run."""

    kind: Literal["attach"] = "attach"
    address: str = "auto"
    """`<host>:<port>` of its head, or `auto`: RAY_ADDRESS, or the Ray that this machine belongs to."""
    ship_code: bool = True
    """Whether the nodes receive the driver's copy of rft; if not, they need the same version installed."""
    node_folder: AbsoluteFolder | None = None
    """Absolute folder on every node for the base model and the learner's files; null takes rft-<user id> in the
    temporary folder."""
    transfer_timeout_s: PositiveSeconds = 600.0
    """Seconds allowed for the next part of a file on its way to a node or back, and for a node to check the base
    model."""


Cluster = Annotated[LocalClusterConfig | AttachClusterConfig, Field(discriminator="kind")]


class EvaluateConfig(Section):
    """A measurement of a base model or an adapter on a task file: `rft evaluate`."""

    seed: Whole = 0
    """Seed of all random numbers."""
    name: FolderName = "evaluate"
    """Name of the run; the default run folder bears it."""
    output_dir: str
    """The run folder; it must not hold a run yet."""
    dry_run: bool = False
    """Check everything that can be checked before the start, print the plan and stop."""
    adapter: str | None = None
    """A run folder or an adapter folder; null measures the base model alone."""
    model: ModelConfig
    data: DataConfig
    sampler: Sampler
    graders: dict[str, dict[str, Any]]
    """Graders by name. `use` names the grader, `weight` its share of the reward; further keys are its own options."""
    grading: GradingConfig = GradingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: Cluster = LocalClusterConfig()


class MergeModelConfig(Section):
    """The base model, and how the merged one is written."""

    path: str | None = None
    """The base model: a folder, a hub id, or `embedded:tiny`; null takes the one that the adapter names."""
    chat_template: str | None = None
    """A file with a Jinja chat template that the merged model keeps; null takes the adapter's or the base model's."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the merged weights; `auto` keeps that of the base model. 16 bits round small updates away."""


class MergeConfig(Section):
    """An adapter merged into its base model: `rft merge`."""

    adapter: str | None = None
    """A run folder, an adapter folder or a checkpoint folder."""
    output_dir: str
    """Where the merged model is written; nothing may be there yet."""
    dry_run: bool = False
    """Read the adapter, find the base model, and stop."""
    model: MergeModelConfig = MergeModelConfig()


class CompletionsConfig(Section):
    """Completions that were recorded."""

    completions: str | None = None
    """A run folder, or a `.jsonl`, `.csv`, `.tsv` or `.parquet` file; `data=<file>` is short for it."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{completion: text, prompt: question}`."""
    phase: Literal["pass rate", "train", "validation", "before", "after", "test"] | None = None
    """Phase of a run whose completions are graded; null grades all."""


class GradeConfig(Section):
    """Grading recorded completions: `rft grade`."""

    name: FolderName = "grade"
    """Name of the output folder by default."""
    output_dir: str
    """Where the scores are written; it must not hold a run yet."""
    dry_run: bool = False
    """Check everything that can be checked before the start, print the plan and stop."""
    data: CompletionsConfig
    graders: dict[str, dict[str, Any]]
    """Graders by name. `use` names the grader, `weight` its share of the reward; further keys are its own options."""
    grading: GradingConfig = GradingConfig()


class AuditDataConfig(Section):
    """The tasks that a grader is audited on."""

    tasks: str | None = None
    """A `.jsonl`, `.csv`, `.tsv` or `.parquet` file, a hub dataset, or `embedded:family/split`; or `data=<file>`."""
    columns: dict[str, str] = {}
    """Names of columns in the file, by rft's name for them: `{prompt: question}`."""
    max_tasks: Positive = 30
    """Number of tasks used, the first ones."""


class AuditConfig(Section):
    """Probing graders before they train anything: `rft audit`."""

    name: FolderName = "audit"
    """Name of the output folder by default."""
    output_dir: str
    """Where the report is written; it must not hold a run yet."""
    dry_run: bool = False
    """Check everything that can be checked before the start, print the plan and stop."""
    data: AuditDataConfig
    gold: str = "answer"
    """The tasks' column with the reference."""
    template: str | None = None
    """Form of a complete answer, such as `<plan></plan> {answer}`, if the graders accept none of the usual formats."""
    completions: str | None = None
    """Recorded completions of the base model, a run folder or a file, for the probes of the training signal."""
    completions_per_prompt: Annotated[Whole, Field(ge=2)] = 8
    """Completions of one prompt that the planned run compares."""
    completions_per_step: Positive = 64
    """Completions that the planned run grades in one step."""
    graders: dict[str, dict[str, Any]]
    """Graders by name. `use` names the grader, `weight` its share of the reward; further keys are its own options."""
    grading: GradingConfig = GradingConfig()


def _on_or_off(value: Any) -> Any:
    """YAML reads `off` as false."""
    return {False: "off"}.get(value, value) if isinstance(value, bool) else value


class ServeConfig(Section):
    """Graders behind HTTP: `rft serve-grader`."""

    host: str = "127.0.0.1"
    """Address to listen on; the default accepts requests from this machine only."""
    port: Annotated[Whole, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    graders: dict[str, dict[str, Any]]
    """Graders by name. `use` names the grader, `weight` its share of the reward; further keys are its own options."""


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
    """Trials with random settings; no trial is pruned before this number of trials has finished."""
    prune: bool = True
    """Whether a trial ends early when its validation tasks score below the median of the earlier trials."""
    seed: Whole = 0
    """Seed of the search; each run has its own."""


class SweepConfig(Section):
    """A search: `rft sweep`. The other keys that it is given are those of `rft train`, and go to every trial."""

    output_dir: str | None = None
    """The folder of the sweep, its trials' run folders in it; null takes `runs/<name>/sweep_<time>`."""
    resume: str | None = None
    """Folder of a sweep to continue."""
    dry_run: bool = False
    """Check everything, print the plan and stop."""
    sweep: SearchConfig = SearchConfig()


class RunConfig(Section):
    """A training run: `rft train`."""

    seed: Whole = 0
    """Seed of all random numbers: task order, sampling, LoRA's initial weights."""
    name: FolderName = "run"
    """Name of the run; the default run folder bears it."""
    output_dir: str
    """The run folder; it must not hold a run yet."""
    resume: str | None = None
    """A run folder, or its copy in storage, to continue from its last checkpoint with its own configuration."""
    storage: str | None = None
    """Path or address for a copy of the run, any that fsspec knows, such as `s3://bucket/runs`. The run is copied there
    after each checkpoint and at its end; null copies nothing."""
    storage_timeout_s: PositiveSeconds = 1800.0
    """Seconds allowed for one copy, and for fetching a run from there."""
    dry_run: bool = False
    """Check everything that can be checked before the start, print the plan and stop; `rft check` does the same."""
    audit: Annotated[Literal["refuse", "warn", "off"], BeforeValidator(_on_or_off)] = "refuse"
    """What to do if the last `rft audit` of these graders failed: refuse to start, warn, or ignore it."""
    model: ModelConfig
    data: DataConfig
    loop: LoopConfig = LoopConfig()
    sampler: Sampler
    learner: Learner
    graders: dict[str, dict[str, Any]]
    """Graders by name. `use` names the grader, `weight` its share of the reward; further keys are its own options."""
    grading: GradingConfig = GradingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    logging: LoggingConfig = LoggingConfig()
    cluster: Cluster = LocalClusterConfig()
