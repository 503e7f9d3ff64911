"""Every key of a run's configuration, with its type, its default and its meaning.

The files in `conf/` choose values; this file says which keys there are. Nothing past `rft.app` sees an untyped
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
from rft.config.learners import FakeLearner, GrpoLearner, PpoLearner


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
    """Of the base model's weights; `auto` is float32 on a CPU and bfloat16 on a GPU."""
    max_context_tokens: Positive | None = None
    """Prompt and completion together; null takes what the model allows."""


class DataConfig(Section):
    """The tasks."""

    train: str | None = None
    """A `.jsonl`, `.csv`, `.tsv` or `.parquet` file (text also as `.gz`), a hub dataset `owner/name[/config]:split`, or
    `embedded:family/split`."""
    validation: str | None = None
    """Tasks measured while the run goes on."""
    test: str | None = None
    """Tasks measured before and after; without them the validation tasks are."""
    validation_share: Share = 0.0
    """Share of the training tasks split off for validation, when `data.validation` is not given."""
    columns: dict[str, str] = {}
    """Our name to the file's: `{prompt: question}`."""
    format: Literal["chat", "raw"] = "chat"
    """`chat` renders prompts with the chat template; `raw` sends the column `prompt` to the model as it is."""
    system: str | None = None
    """A system message put before every prompt that has none."""
    allow_overlap: bool = False
    """Whether the same prompt may be in train and in validation or test."""
    long_prompts: Literal["error", "drop"] = "error"
    """What to do with prompts that leave no room for a completion."""


class PassRateConfig(Section):
    """Which training tasks are kept, by the mean reward that the base model gets for them before the first step."""

    completions_per_task: Positive = 4
    """Completions sampled of each training task to find out."""
    min: Number = 0.1
    """Tasks with a lower mean reward are too hard, and left out."""
    max: Number = 0.9
    """Tasks with a higher mean reward are too easy, and left out."""


class LoopConfig(Section):
    """The training loop."""

    steps: Positive = 100
    """Optimizer steps."""
    prompts_per_step: Positive = 8
    """Tasks sampled in one step."""
    completions_per_prompt: Positive = 8
    """Completions sampled of each task: the group whose rewards are compared."""
    staleness: Annotated[Whole, Field(ge=0, le=16)] = 0
    """Policy versions that the samplers run ahead of the learner; 0 is strictly on-policy, with 1 or more sampling and
    grading go on while the learner is at work, and importance weights correct for the difference."""
    refill_rounds: NotNegative = 0
    """How often groups whose rewards are all equal may be replaced by newly sampled ones in a step; 0 keeps them."""
    pass_rate: PassRateConfig | None = None
    """Leaves out training tasks that are too easy or too hard; null keeps all."""
    checkpoint_every_steps: Positive = 50
    """A checkpoint is written every so many steps, and at the end."""
    keep_checkpoints: Positive = 2
    """Older checkpoints are removed."""


class SamplerConfig(Section):
    """What all samplers share."""

    num_actors: Positive = 1
    """Ray actors, each with an engine of its own."""
    temperature: Annotated[Number, Field(gt=0)] = 1.0
    """Of the softmax, in training."""
    max_completion_tokens: Positive = 256
    """A completion is cut here."""
    num_threads: Positive | None = None
    """CPU threads of each engine; null shares the cores out among the engines and, above staleness 0, the learner."""
    num_gpus: Annotated[Number, Field(ge=0)] | None = None
    """GPUs of each actor, a fraction to share one; null shares out those that there are."""
    start_timeout_s: PositiveSeconds = 600.0
    """Deadline for starting all engines."""
    stall_timeout_s: PositiveSeconds = 300.0
    """Deadline for the next completion, and for a sync."""
    canary_tolerance: Annotated[Number, Field(gt=0)] | None = None
    """Mean log-probability gap to the learner that a sync may have; null takes that of the dtype: 1e-4 in float32,
    0.02 in float16, 0.05 in bfloat16."""
    on_failed_proof: Literal["stop", "quarantine"] = "stop"
    """What happens when a sampler cannot prove that it serves the new policy: the run stops, or goes on without that
    sampler as long as another is sound."""


class ModelSampler(SamplerConfig):
    """What samplers with a model share."""

    stop: list[Annotated[str, Field(min_length=1)]] = []
    """Strings that end a completion, such as `["Question:"]`, beside the end tokens of tokenizer and generation_config.

    The completion ends with the token that completes one of them; graders see the text before it. Needed where a base
    model does not end its turns itself."""


class VllmSampler(ModelSampler):
    """vLLM, on a CPU or on GPUs."""

    kind: Literal["vllm"] = "vllm"
    serve: Literal["adapter", "merged", "auto"] | None = None
    """How an adapter is served: `adapter`, beside the base model; `merged` into a clean copy of it, which samples
    faster and takes DoRA and any rank; `auto`, whichever a trial at the start finds faster. null is merged in float32,
    and adapter in 16 bits, where a merged weight rounds small updates away."""
    engine: dict[str, Any] = {}
    """vLLM's own `EngineArgs` by name, as `gpu_memory_utilization`; they win over what rft sets."""


class TransformersSampler(ModelSampler):
    """`generate` of Transformers, where vLLM cannot be installed."""

    kind: Literal["transformers"] = "transformers"
    completions_per_batch: Positive = 64
    """Completions generated side by side."""


class FakeSampler(SamplerConfig):
    """Scripted completions, without a model: for trying out everything else."""

    kind: Literal["fake"] = "fake"
    script: Annotated[list[str], Field(min_length=1)] = ["1", "2", "3", "4"]
    """Completions to draw from."""
    completions_per_s: Annotated[Number, Field(gt=0)] | None = None
    """How many completions each engine ends in a second, one after the other; null ends them at once."""


class GradingConfig(Section):
    """How graders are run."""

    max_concurrency: Positive = 64
    """Completions graded at the same time."""
    num_workers: Positive | None = None
    """Worker processes for synchronous graders; null takes one less than there are cores, at least 2."""
    cache_folder: str | None = None
    """Where scores of deterministic graders are kept, so that the same input is not graded twice; null keeps none."""
    max_fault_share: Annotated[Number, Field(ge=0, le=1)] = 0.1
    """The run ends once a grader failed on more than this share of the last completions."""
    fault_window_completions: Positive = 200
    """How many completions "the last" are."""
    audit_folder: str | None = ".rft/audits"
    """Where `rft audit` keeps its verdicts and `rft train` asks for them; null does neither."""


class EvaluationConfig(Section):
    """Measuring on held-out tasks."""

    every_steps: Positive | None = 10
    """The validation tasks are measured every so many steps; null does not."""
    completions_per_task: Positive = 1
    """Completions sampled of each held-out task."""
    temperature: Temperature = 1.0
    """Of the softmax, in evaluation."""
    metric: str = "reward"
    """`reward`, or the name of a grader."""
    max_validation_tasks: Positive | None = None
    """Only the first so many validation tasks are measured while the run goes on; null takes all."""


class LoggingConfig(Section):
    """Trackers besides the run folder's own files."""

    report_to: list[str] = ["tensorboard"]
    """Any that Transformers knows: tensorboard, wandb, mlflow, ..."""


class ClusterConfig(Section):
    """What all clusters share."""

    start_timeout_s: PositiveSeconds = 120.0
    """Deadline for starting Ray or for being taken in by it, and for a node's first answer."""
    placement_timeout_s: PositiveSeconds = 120.0
    """Deadline for a place for every process; nodes may join and other runs may end meanwhile."""


class LocalCluster(ClusterConfig):
    """Ray on this machine, started for the run and stopped at its end; it listens on loopback alone."""

    kind: Literal["local"] = "local"


class AttachCluster(ClusterConfig):
    """A Ray cluster that runs already, and goes on afterwards."""

    kind: Literal["attach"] = "attach"
    address: str = "auto"
    """`<host>:<port>` of its head, or `auto`: RAY_ADDRESS, or the Ray that this machine belongs to."""
    ship_code: bool = True
    """Whether the nodes get the driver's copy of rft; otherwise the same version must be installed there."""
    node_folder: AbsoluteFolder | None = None
    """Absolute folder on every node for the base model and the learner's files; null takes rft-<user id> in the
    temporary folder."""
    transfer_timeout_s: PositiveSeconds = 600.0
    """Deadline for the next part of a file on its way to a node or back, and for a node to check the base model."""


Sampler = Annotated[VllmSampler | TransformersSampler | FakeSampler, Field(discriminator="kind")]
Learner = Annotated[GrpoLearner | PpoLearner | FakeLearner, Field(discriminator="kind")]
Cluster = Annotated[LocalCluster | AttachCluster, Field(discriminator="kind")]


class EvaluateConfig(Section):
    """A measurement of a base model or an adapter on a task file: `rft evaluate`."""

    seed: Whole = 0
    """Seed of everything random."""
    name: FolderName = "evaluate"
    """What the run folder is called by default."""
    output_dir: str
    """The run folder; it must not hold a run yet."""
    dry_run: bool = False
    """Check all that can be checked before the start, print the plan and stop."""
    adapter: str | None = None
    """A run folder or an adapter folder; null measures the base model alone."""
    model: ModelConfig
    data: DataConfig
    sampler: Sampler
    graders: dict[str, dict[str, Any]]
    """Graders by name; `use` says which, `weight` how much of the reward, the rest are the grader's own options."""
    grading: GradingConfig = GradingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    cluster: Cluster = LocalCluster()


class MergeModelConfig(Section):
    """The base model, and how the merged one is written."""

    path: str | None = None
    """The base model: a folder, a hub id, or `embedded:tiny`; null takes the one that the adapter names."""
    chat_template: str | None = None
    """A file with a Jinja chat template that the merged model keeps; null takes the adapter's or the base model's."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the merged weights; `auto` is that of the base model's files. 16 bits round small updates away."""


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
    """Our name to the file's: `{completion: text, prompt: question}`."""
    phase: Literal["pass rate", "train", "validation", "before", "after", "test"] | None = None
    """Of a run, only the completions sampled for this; null takes all."""


class GradeConfig(Section):
    """Grading recorded completions: `rft grade`."""

    name: FolderName = "grade"
    """What the output folder is called by default."""
    output_dir: str
    """Where the scores are written; it must not hold a run yet."""
    dry_run: bool = False
    """Check all that can be checked before the start, print the plan and stop."""
    data: CompletionsConfig
    graders: dict[str, dict[str, Any]]
    """Graders by name; `use` says which, `weight` how much of the reward, the rest are the grader's own options."""
    grading: GradingConfig = GradingConfig()


class AuditDataConfig(Section):
    """The tasks that a grader is audited on."""

    tasks: str | None = None
    """A `.jsonl`, `.csv`, `.tsv` or `.parquet` file, a hub dataset, or `embedded:family/split`; or `data=<file>`."""
    columns: dict[str, str] = {}
    """Our name to the file's: `{prompt: question}`."""
    max_tasks: Positive = 30
    """Only the first so many are used."""


class AuditConfig(Section):
    """Probing graders before they train anything: `rft audit`."""

    name: FolderName = "audit"
    """What the output folder is called by default."""
    output_dir: str
    """Where the report is written; it must not hold a run yet."""
    dry_run: bool = False
    """Check all that can be checked before the start, print the plan and stop."""
    data: AuditDataConfig
    gold: str = "answer"
    """The tasks' column with the reference."""
    template: str | None = None
    """How a complete answer looks, as `<plan></plan> {answer}`, if the graders accept none of the usual formats."""
    completions: str | None = None
    """Recorded completions of the base model, a run folder or a file, for the probes of what there is to learn."""
    completions_per_prompt: Annotated[Whole, Field(ge=2)] = 8
    """Completions of one prompt that the planned run compares."""
    completions_per_step: Positive = 64
    """Completions that the planned run grades in one step."""
    graders: dict[str, dict[str, Any]]
    """Graders by name; `use` says which, `weight` how much of the reward, the rest are the grader's own options."""
    grading: GradingConfig = GradingConfig()


def _on_or_off(value: Any) -> Any:
    """YAML reads `off` as false."""
    return {False: "off"}.get(value, value) if isinstance(value, bool) else value


class ServeConfig(Section):
    """Graders behind HTTP: `rft serve-grader`."""

    host: str = "127.0.0.1"
    """The address to listen at; by default only this machine can ask."""
    port: Annotated[Whole, Field(ge=0, le=65535)] = 8000
    """The port to listen at; 0 takes any that is free."""
    graders: dict[str, dict[str, Any]]
    """Graders by name; `use` says which, `weight` how much of the reward, the rest are the grader's own options."""


class SearchConfig(Section):
    """A search for good settings."""

    space: dict[str, Any] = {}
    """Where to look, by the keys of `rft train`, as Hydra writes it: `tag(log, interval(1e-5, 1e-3))`, `choice(4, 8)`,
    `range(1, 9)`, `int(interval(4, 32))`. Keys that are given several values on the command line come to these."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Whether a higher or a lower held-out score is better."""
    trials: Positive = 20
    """Trials in all, those before a resume included."""
    parallel: Positive | None = None
    """Trials at the same time; null lets rft decide. The fewer, the more each can learn from those before."""
    startup_trials: Positive = 5
    """Trials with settings drawn at random, and the least number that have finished when one is pruned."""
    prune: bool = True
    """Whether a trial ends early when the validation tasks score worse than in the median of the trials before."""
    seed: Whole = 0
    """Of the search; the runs have their own."""


class SweepConfig(Section):
    """A search: `rft sweep`. The other keys that it is given are those of `rft train`, and go to every trial."""

    output_dir: str | None = None
    """The folder of the sweep, its trials' run folders in it; null takes `runs/<name>/sweep_<time>`."""
    resume: str | None = None
    """The folder of a sweep to go on with."""
    dry_run: bool = False
    """Check everything, print the plan and stop."""
    sweep: SearchConfig = SearchConfig()


class RunConfig(Section):
    """A training run: `rft train`."""

    seed: Whole = 0
    """Seed of everything random: task order, sampling, LoRA's start."""
    name: FolderName = "run"
    """What the run folder is called by default."""
    output_dir: str
    """The run folder; it must not hold a run yet."""
    resume: str | None = None
    """A run folder, or its copy in storage, to continue from its last checkpoint with its own configuration."""
    storage: str | None = None
    """A path or an address that fsspec knows, as `s3://bucket/runs`. Below it, under the names of run and run folder,
    the run is copied after each checkpoint and at its end; null copies nothing."""
    storage_timeout_s: PositiveSeconds = 1800.0
    """Deadline of one such copy, and for bringing a run back from there."""
    dry_run: bool = False
    """Check all that can be checked before the start, print the plan and stop; `rft check` is the same."""
    audit: Annotated[Literal["refuse", "warn", "off"], BeforeValidator(_on_or_off)] = "refuse"
    """What to do where the last `rft audit` of these graders failed: refuse to start, warn, or do not ask."""
    model: ModelConfig
    data: DataConfig
    loop: LoopConfig = LoopConfig()
    sampler: Sampler
    learner: Learner
    graders: dict[str, dict[str, Any]]
    """Graders by name; `use` says which, `weight` how much of the reward, the rest are the grader's own options."""
    grading: GradingConfig = GradingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    logging: LoggingConfig = LoggingConfig()
    cluster: Cluster = LocalCluster()
