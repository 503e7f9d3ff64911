"""The learner of all algorithms based on TRL's trainer: trains an adapter, or weights of the model itself."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pkgutil import resolve_name
from typing import Any

import torch
from peft import PeftConfig
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from rft.config import sequences_per_step
from rft.config.adapters import LowRankConfig
from rft.config.learners.policy import PolicyLearnerConfig
from rft.errors import LearnError
from rft.learning.adapter_methods import freeze, merged_state, peft_config
from rft.learning.adapter_packer import AdapterPacker
from rft.learning.canaries import score_canaries
from rft.learning.checkpoints import new_checkpoint, unfinished_folder
from rft.learning.float32_head import use_float32_head
from rft.learning.guards import TrainingGuard
from rft.learning.pack_weights import pack_model
from rft.learning.publication_record import PublicationRecord
from rft.learning.ranks import Ranks, checksum
from rft.learning.spec import LearnerSpec
from rft.learning.stacked_start import StackedStart
from rft.learning.start_policy import StartPolicy, continued, disable_dropout_of_reference
from rft.learning.trainer_thread import TrainerThread
from rft.learning.trl_import import GRPOConfig
from rft.learning.trl_seam import SteppedTrainer
from rft.models.base_model import load_tokenizer
from rft.types import Adapter, FullWeights, Logprobs, Policy, Publication


class TrlLearner:
    """Trains a policy in this process, alone or as one of several ranks.

    Args:
        spec: Spec of the learner. Its `learner.trl`, TRL's own options by name, overrides the options set here.
        ranks: The processes that train together.
    """

    def __init__(self, spec: LearnerSpec, ranks: Ranks | None = None) -> None:
        torch.set_num_threads(spec.num_threads)
        warnings.filterwarnings("ignore", message=".*rollout_func.*experimental.*")
        transformers_logging.disable_progress_bar()
        self._spec = spec
        self._ranks = ranks or Ranks()
        if spec.on_gpu and spec.gpu_share < 1:
            # Beyond its share, the learner would take the memory of the engine on the same GPU, which then ends.
            torch.cuda.set_per_process_memory_fraction(spec.gpu_share)
        model = _load_model(spec)
        self._adapter = spec.run.learner.adapter
        if self._adapter.trains_base:
            freeze(model, self._adapter)
        model, self._start_policy = _with_start(spec, model)
        config = None if isinstance(self._start_policy, StartPolicy) else peft_config(self._adapter, model)
        if spec.run.learner.base is not None:
            from rft.learning.quantized_base import adapted

            model, config = adapted(model, config), None
        tokenizer = load_tokenizer(spec.model, spec.run.model.chat_template, needs_template=False)
        self._stepped = self._stepped_trainer(model, tokenizer, config)
        disable_dropout_of_reference(self._stepped.trainer.model)
        self._packer: AdapterPacker | None = None
        self._base_canary_logprobs = self._start()
        self._guard = TrainingGuard(self._trained)
        self._start_publication: Publication | None = None
        if self._start_policy is not None:
            self._start_publication = self._start_policy.publication(
                self._stepped.trainer.model, spec.canaries, self._base_canary_logprobs
            )
        self._published = PublicationRecord(spec.version_0, spec.run.loop.staleness)
        if spec.resume_from is not None and self._ranks.is_first:
            self._published.load(spec.resume_from, self._publication())

    def _stepped_trainer(self, model: Any, tokenizer: Any, adapter: PeftConfig | None) -> TrainerThread[Any]:
        """Return the trainer of graded groups."""
        spec, learner = self._spec, self._spec.run.learner
        assert isinstance(learner, PolicyLearnerConfig)  # no other configuration names this class
        try:
            config = GRPOConfig(**_arguments(spec, learner))
        except (TypeError, ValueError) as error:
            raise LearnError(f"TRL refuses learner.trl: {error}") from error
        environment = spec.run.environment
        by_turn = {"turn_discount": environment.discount} if environment.credit == "turn" else {}
        stepped = SteppedTrainer(
            model=model,
            tokenizer=tokenizer,
            config=config,
            adapter=adapter,
            timeout_s=learner.step_timeout_s,
            trainer_class=partial(resolve_name(learner.trainer), learner=learner, ranks=self._ranks, **by_turn),
        )
        if spec.dtype != "float32" and learner.trl.get("cast_lm_head_to_fp32", True):
            use_float32_head(stepped.trainer, getattr(torch, spec.dtype))
        return stepped

    @property
    def steps_done(self) -> int:
        """Completed optimizer steps, including those before a resume."""
        return self._stepped.steps_done

    def learn(self, batch: Sequence[Any]) -> dict[str, float]:
        """Take one optimizer step on graded groups, or on what a subclass learns from; return TRL's metrics.

        Raises:
            LearnError: A rollout has a policy that this learner did not publish, or that is too old.
        """
        if self._ranks.is_first:
            self._check(batch)
        with self._ranks.step():
            metrics = self._stepped.step(batch)
        self._guard.check(metrics)
        return metrics

    def _check(self, batch: Sequence[Any]) -> None:
        """Refuse rollouts of other policies. Recorded pairs belong to none."""
        if self._spec.run.learner.takes == "groups":
            self._published.check(batch, steps_done=self.steps_done)

    def start_logprobs(self, count: int) -> list[list[float] | None]:
        """Return log-probabilities under the start of the run, of the first completions of the last step."""
        logprobs: list[list[float] | None] = self._stepped.trainer.start_logprobs(count)
        return logprobs

    def publish(self) -> Publication:
        """Return the current policy as version `steps_done`."""
        publication = self._published.newest(self.steps_done)
        if publication is None:
            publication = self._publication()
            self._published.add(publication)
        return publication

    def policy(self) -> Policy:
        """Return version and fingerprint of the current policy, without a publication."""
        publication = self._published.newest(self.steps_done)
        return (publication or self._pack(self._stepped.trainer.model)).policy

    def start_publication(self) -> Publication | None:
        """Return the adapter that the run started from, as version 0; None if it started from the base model."""
        return self._start_publication

    def base_canary_logprobs(self) -> Logprobs:
        """Return the base model's scores of the canaries."""
        return self._base_canary_logprobs

    def history(self) -> list[Publication]:
        """Return the last publications, oldest first."""
        return self._published.all()

    def checksum(self) -> int:
        """Return a number that is equal for learners whose trained weights are equal bit for bit."""
        return checksum(self._stepped.trainer.trained())

    def release_memory(self) -> None:
        """Return the unused blocks of PyTorch's allocator to the GPU."""
        torch.cuda.empty_cache()

    def save(self) -> None:
        """Write a checkpoint. It appears in its place when it is complete."""
        self.publish()
        spec = self._spec
        with new_checkpoint(spec.run_folder, step=self.steps_done, keep=spec.run.loop.keep_checkpoints):
            self._published.save(self._stepped.save())

    def close(self) -> None:
        """End the trainer."""
        self._stepped.close()

    def _start(self) -> Logprobs:
        """Start the trainer; return the base model's scores of the canaries."""
        spec, model = self._spec, self._stepped.trainer.model
        if self._adapter.trains_base:  # a checkpoint overwrites the base model
            scores: Logprobs = score_canaries(model, spec.canaries, self._precision())
            self._stepped.start(spec.resume_from)
        else:
            self._stepped.start(spec.resume_from)
            is_hidden = self._start_policy.hidden() if self._start_policy else nullcontext()
            with model.disable_adapter(), is_hidden:  # after the start, which adds the autocast of training
                scores = score_canaries(model, spec.canaries)
        return scores

    def _trained(self) -> list[Tensor]:
        """Return the weights that the optimizer trains. PEFT may mark others as trainable later."""
        groups = self._stepped.trainer.optimizer.param_groups
        return [weight for group in groups for weight in group["params"]]

    def _publication(self) -> Publication:
        model, spec = self._stepped.trainer.model, self._spec
        return Publication(
            weights=self._pack(model),
            canary_logprobs=score_canaries(model, spec.canaries, self._precision()),
            base_canary_logprobs=self._base_canary_logprobs,
        )

    def _pack(self, model: Any) -> Adapter | FullWeights:
        spec, version = self._spec, self.steps_done
        if self._adapter.publishes == "model":
            base, state = (model, None) if self._adapter.trains_base else (model.get_base_model(), merged_state(model))
            return pack_model(base, version=version, dtype=getattr(torch, spec.dtype), state=state)
        if isinstance(self._start_policy, StackedStart):
            return self._start_policy.pack(model, version=version)
        if self._packer is None:
            self._packer = AdapterPacker(model, spec.model_name)
        return self._packer.pack(version)

    def _precision(self) -> AbstractContextManager[Any]:
        """Return the autocast of training. Only float32 weights that are served in a coarser dtype need one."""
        spec = self._spec
        dtype: torch.dtype = getattr(torch, spec.dtype)
        if self._adapter.trains_base and spec.on_gpu and dtype != torch.float32:
            autocast: AbstractContextManager[Any] = torch.autocast("cuda", dtype=dtype)
            return autocast
        return nullcontext()


def _load_model(spec: LearnerSpec) -> Any:
    # The model's own weights are trained in float32, with autocast on a GPU: bfloat16 loses steps of 1e-6.
    dtype = torch.float32 if spec.run.learner.adapter.trains_base else getattr(torch, spec.dtype)
    config = without_dropout(AutoConfig.from_pretrained(spec.model))
    device = "cuda" if spec.on_gpu else "cpu"
    if (base := spec.run.learner.base) is not None:
        from rft.learning.quantized_base import load_quantized

        return load_quantized(spec.model, base, dtype=dtype, device=device, config=config)
    return AutoModelForCausalLM.from_pretrained(spec.model, config=config, dtype=dtype).to(device)


def _with_start(spec: LearnerSpec, model: Any) -> tuple[Any, StartPolicy | StackedStart | None]:
    """Return the model with the adapter of the start, and the start; without one, the model as it is.

    Raises:
        LearnError: The adapter does not fit the base model.
    """
    adapter, start = spec.run.learner.adapter, spec.start
    if start is None or not isinstance(adapter, LowRankConfig):
        return model, None
    if spec.run.start_mode == "stack":
        stacked = StackedStart(start, continued(model, start, dropout=0.0), base_model_name=spec.model_name)
        return stacked.model, stacked
    model = continued(model, start, dropout=adapter.dropout)
    return model, StartPolicy(start, model, base_model_name=spec.model_name)


def without_dropout(config: Any) -> Any:
    """Disable the dropout of the model itself, such as GPT-2's or OPT's; the adapter's dropout is a separate setting.

    Samplers have no dropout, so the learner would otherwise train a policy that differs from the sampling one.
    """
    for part in (config, config.get_text_config()):
        for name, value in vars(part).items():
            if "drop" in name and isinstance(value, float):
                setattr(part, name, 0.0)
    return config


def _arguments(spec: LearnerSpec, learner: PolicyLearnerConfig) -> dict[str, Any]:
    """Return the arguments of `GRPOConfig`."""
    run, loop = spec.run, spec.run.loop
    completions_per_step = sequences_per_step(run)
    completions_per_group = completions_per_step // loop.prompts_per_step
    accumulation = completions_per_step // spec.completions_per_micro_batch
    return {
        "output_dir": str(unfinished_folder(spec.run_folder)),
        "max_steps": loop.steps * learner.epochs,
        "num_iterations": learner.epochs,
        # PPO compares no groups, but TRL requires groups of at least 2.
        "num_generations": completions_per_group if completions_per_group > 1 else completions_per_step,
        "per_device_train_batch_size": spec.completions_per_micro_batch,
        "gradient_accumulation_steps": accumulation,
        "steps_per_generation": accumulation,
        "max_completion_length": run.sampler.max_completion_tokens,
        # Recorded answers were sampled at no known temperature.
        "temperature": run.sampler.temperature if learner.takes == "groups" else 1.0,
        "learning_rate": learner.learning_rate,
        # Without `warmup_steps` it equals `constant`, which would ignore them.
        "lr_scheduler_type": "constant_with_warmup",
        "seed": run.seed,
        "shuffle_dataset": False,
        **precision_options(spec),
        **learner.trl_options(),
    }


def precision_options(spec: LearnerSpec) -> dict[str, Any]:
    """Return the arguments of all of TRL's trainers: device and precision, and what rft does itself."""
    return {
        "use_cpu": not spec.on_gpu,
        "bf16": spec.on_gpu and spec.dtype == "bfloat16",
        "fp16": spec.on_gpu and spec.dtype == "float16",  # with loss scaling: small gradients would round to 0
        "gradient_checkpointing": spec.gradient_checkpointing,
        "dataloader_pin_memory": spec.on_gpu,
        "report_to": [],  # trackers are sinks of the driver
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "ignore_data_skip": True,
    }
