"""What a run would do, in words and numbers, without importing anything heavy."""

from __future__ import annotations

from rft.config import RunConfig, completions_per_micro_batch


def training_plan(run: RunConfig) -> str:
    """The plan that `dry_run=true` prints: what counts as what, and where everything goes."""
    loop, sampler, learner = run.loop, run.sampler, run.learner
    per_step = loop.prompts_per_step * loop.completions_per_prompt
    micro_batch = completions_per_micro_batch(run, on_gpu=bool(learner.num_gpus))
    passes = per_step // micro_batch
    trained = f"LoRA rank {learner.lora.rank}" if learner.lora else "all weights"
    share = f"{run.data.validation_share:g} of the training tasks" if run.data.validation_share else None
    graders = [
        f"{name} ({spec.get('use', 'openai')}, weight {spec.get('weight', 1.0):g})"
        for name, spec in run.graders.items()
    ]
    rows = {
        "base model": run.model.path,
        "train on": run.data.train,
        "validate on": run.data.validation or share,
        "test on": run.data.test,
        "graders": ", ".join(graders),
        "steps": f"{loop.steps} of {loop.prompts_per_step} prompts x {loop.completions_per_prompt} completions "
        f"= {per_step} completions",
        "optimizer step": f"{passes} micro-batch{'es' if passes > 1 else ''} of {micro_batch} completions",
        "in all": f"{loop.steps * loop.prompts_per_step} prompts, {loop.steps * per_step} completions of at most "
        f"{sampler.max_completion_tokens} tokens",
        "samplers": f"{sampler.num_actors} x {sampler.kind}, temperature {sampler.temperature:g}",
        "learner": f"{learner.kind}, {trained}, learning rate {learner.learning_rate:g}"
        + (f", {learner.num_workers} ranks" if learner.num_workers > 1 else ""),
        "run folder": run.output_dir,
    }
    if run.storage:
        rows["copied to"] = run.storage
    if loop.staleness:
        rows["sampled ahead"] = f"{loop.staleness} policy version{'s' if loop.staleness > 1 else ''}, so up to " + (
            f"{(loop.staleness + 1) * per_step} completions in flight"
        )
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {value or 'nothing'}" for name, value in rows.items()]
    return "\n".join(["the configuration is right; the run would be:", *lines])
