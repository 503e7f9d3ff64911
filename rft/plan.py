"""What a run would do, in words and numbers, without importing anything heavy."""

from __future__ import annotations

from rft.config import RunConfig, completions_per_micro_batch


def training_plan(run: RunConfig) -> str:
    """The plan that `dry_run=true` prints: what counts as what, and where everything goes."""
    loop = run.loop
    completions = loop.prompts_per_step * loop.completions_per_prompt
    micro_batch = completions_per_micro_batch(run)
    rows = {
        "base model": run.model.path,
        "train on": run.data.train,
        "validate on": run.data.validation or (f"{run.data.validation_share:g} of train" * (run.data.validation_share > 0)),
        "test on": run.data.test,
        "graders": ", ".join(f"{name} ({spec['use']}, weight {spec.get('weight', 1.0):g})" for name, spec in run.graders.items()),
        "steps": f"{loop.steps}, each {loop.prompts_per_step} prompts x {loop.completions_per_prompt} completions = "
        f"{completions} completions",
        "one optimizer step": f"{completions // micro_batch} micro-batches of {micro_batch} completions",
        "in all": f"{loop.steps * loop.prompts_per_step} prompts, {loop.steps * completions} completions of at most "
        f"{run.sampler.max_completion_tokens} tokens",
        "samplers": f"{run.sampler.num_actors} x {run.sampler.kind}, temperature {run.sampler.temperature:g}",
        "learner": f"{run.learner.kind}, LoRA rank {run.learner.lora.rank}, learning rate {run.learner.learning_rate:g}",
        "run folder": run.output_dir,
    }
    width = max(map(len, rows))
    lines = [f"  {name:<{width}}  {value or 'nothing'}" for name, value in rows.items()]
    return "\n".join(["the configuration is right; the run would be:", *lines])
