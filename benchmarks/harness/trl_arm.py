"""Does one job with TRL's GRPOTrainer in a separate process: `python -m harness.trl_arm <specification> <outcome>`.

Options of the arm besides those of `GRPOConfig`: `num_threads` (CPU threads), `grading` (`one_by_one` or
`all_at_once`), and `vllm_push` (`load_weights` as in TRL, or `reload_weights`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness.arms import Job, Outcome, hash_ids, read_specification


def main() -> None:
    """Train, then write the outcome."""
    job, arm = read_specification(Path(sys.argv[1]))
    options = dict(arm.options)
    threads = options.pop("num_threads", os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if options.get("use_vllm"):
        set_vllm_environment()
    run(job, arm.name, options, threads).write(Path(sys.argv[2]))


def set_vllm_environment() -> None:
    """Set options of vLLM that TRL lacks. On a CPU, threads bound to cores stall when other work takes the cores."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")


def run(job: Job, name: str, options: dict[str, Any], threads: int) -> Outcome:
    """Train with TRL and record each step."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from rft.learning.pack_weights import pack_adapter
    from rft.models.base_model import fingerprint

    torch.set_num_threads(threads)
    record = Record(job, all_at_once=options.pop("grading", "one_by_one") == "all_at_once")
    push = options.pop("vllm_push", "load_weights")

    class Timed(GRPOTrainer):  # type: ignore[misc]  # TRL is not followed
        """TRL's trainer with a stopwatch around its slow parts."""

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            with record.phase("generate"):
                return super()._generate_single_turn(*args, **kwargs)

        def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
            with record.phase("grade"):
                return super()._calculate_rewards(*args, **kwargs)

    class Steps(TrainerCallback):  # type: ignore[misc]  # Transformers is not followed
        """Records the end of each step."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            record.ended_s.append(time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            record.end_step()

    tokenizer = AutoTokenizer.from_pretrained(job.model)
    rows = list(training_rows(job, tokenizer, record))
    with tempfile.TemporaryDirectory() as folder:
        from datasets import Dataset

        trainer = Timed(
            model=AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, job.dtype)),
            args=GRPOConfig(**arguments(job, options, folder)),
            processing_class=tokenizer,
            reward_funcs=record.reward_function(),
            train_dataset=Dataset.from_list(rows),
            peft_config=lora_config(job),
            callbacks=[Steps()],
        )
        if push == "reload_weights":
            push_by_reload(trainer)
        first = pack_adapter(trainer.model, version=0, base_model_name="").policy.fingerprint
        trainer.train()
    return outcome(name, record, trainer, model_sha=fingerprint(job.model), first_adapter=first)


def lora_config(job: Job) -> Any:
    """Return PEFT's configuration of the job's adapter."""
    from peft import LoraConfig

    return LoraConfig(
        r=job.lora_rank,
        lora_alpha=job.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def outcome(name: str, record: Record, trainer: Any, *, model_sha: str, first_adapter: str) -> Outcome:
    """Return the outcome of a trained arm."""
    lora = trainer.model.peft_config["default"]
    return Outcome(
        arm=name,
        model_sha=model_sha,
        first_adapter=first_adapter,
        lora={
            "rank": lora.r,
            "alpha": float(lora.lora_alpha),
            "dropout": lora.lora_dropout,
            "target_modules": sorted(lora.target_modules),
        },
        learning_rate=trainer.optimizer.param_groups[0]["lr"],
        prompts=record.prompts,
        tasks=record.tasks,
        rewards=record.rewards,
        tokens=record.tokens,
        ended_s=record.ended_s,
        phases_s=record.phases_s,
    )


def arguments(job: Job, options: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return the arguments of `GRPOConfig` for the job and the arm's options."""
    import torch

    completions = job.prompts_per_step * job.completions_per_prompt
    micro_batch = options.pop("per_device_train_batch_size", completions)
    return {
        "output_dir": folder,
        "max_steps": job.steps,
        "num_generations": job.completions_per_prompt,
        "per_device_train_batch_size": micro_batch,
        "gradient_accumulation_steps": completions // micro_batch,
        "max_completion_length": job.max_completion_tokens,
        "temperature": 1.0,
        "learning_rate": job.learning_rate,
        "lr_scheduler_type": "constant",
        "seed": job.seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": job.dtype == "bfloat16",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "beta": 0.0,
        "report_to": [],
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "shuffle_dataset": False,
        **options,
    }


def training_rows(job: Job, tokenizer: Any, record: Record) -> Iterator[dict[str, Any]]:
    """Yield the tasks of every step in rft's order, with the columns of the reward function."""
    from rft.data.order import task_indices
    from rft.data.rendering import Renderer
    from rft.data.splits import load_task_sets

    tasks = load_task_sets(
        train=str(job.tasks),
        validation=None,
        test=None,
        columns={},
        system=None,
        validation_share=0.0,
        seed=job.seed,
        allow_overlap=False,
    ).train
    renderer = Renderer(tokenizer)
    for step in range(1, job.steps + 1):
        chosen = [tasks[at] for at in task_indices(len(tasks), job.prompts_per_step, seed=job.seed, step=step)]
        record.prompts.append(hash_ids([renderer.render(task) for task in chosen]))
        for task in chosen:
            yield {"prompt": [dict(message) for message in task.messages], "task_id": task.id, "item": dict(task.item)}


class Record:
    """A record of all steps, filled during training."""

    def __init__(self, job: Job, *, all_at_once: bool) -> None:
        self._job = job
        self._all_at_once = all_at_once
        self.prompts: list[str] = []
        self.tasks: list[list[str]] = []
        self.rewards: list[list[list[float]]] = []
        self.tokens: list[list[int]] = []
        self.ended_s: list[float] = []
        self.phases_s: list[dict[str, float]] = [{}]

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's seconds to a phase of the current step."""
        started = time.perf_counter()
        yield
        self.phases_s[-1][name] = self.phases_s[-1].get(name, 0.0) + time.perf_counter() - started

    def end_step(self) -> None:
        """End a step. Time outside the recorded phases was spent learning."""
        self.ended_s.append(time.perf_counter())
        phases = self.phases_s[-1]
        phases["learn"] = self.ended_s[-1] - self.ended_s[-2] - sum(phases.values())
        if len(self.ended_s) <= self._job.steps:
            self.phases_s.append({})

    def reward_function(self) -> Callable[..., Any]:
        """Return the reward function for TRL, which also records each batch."""
        from harness import scoring

        job = self._job

        def sync(completions: Any, completion_ids: Any, task_id: Any, item: Any, **_: Any) -> list[float]:
            texts = [message[0]["content"] for message in completions]
            return self._keep(scoring.reward_one_by_one(texts, item, job.score, job.delay_s), completion_ids, task_id)

        async def all_at_once(completions: Any, completion_ids: Any, task_id: Any, item: Any, **_: Any) -> list[float]:
            texts = [message[0]["content"] for message in completions]
            rewards = await scoring.reward_all_at_once(texts, item, job.score, job.delay_s)
            return self._keep(rewards, completion_ids, task_id)

        return all_at_once if self._all_at_once else sync

    def _keep(self, rewards: list[float], completion_ids: Any, task_id: Any) -> list[float]:
        size = self._job.completions_per_prompt
        self.tasks.append(list(task_id[::size]))
        self.rewards.append([rewards[start : start + size] for start in range(0, len(rewards), size)])
        self.tokens.append([len(ids) for ids in completion_ids])
        return rewards


def push_by_reload(trainer: Any) -> None:
    """Send weights to the colocated vLLM by `reload_weights`. On a CPU, `load_weights` meets packed, empty tensors."""
    generation = trainer.vllm_generation

    def sync_weights() -> None:
        weights = [(name, tensor.detach().clone()) for name, tensor in generation._iter_named_params()]
        generation.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        generation.llm.reset_prefix_cache()

    generation.sync_weights = sync_weights


if __name__ == "__main__":
    main()
