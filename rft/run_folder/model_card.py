"""The model card of a result: training data, graders, results and usage."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rft import __version__
from rft.config.adapters import METHODS, AdapterConfig
from rft.metrics.comparison import COMPARISON_COLUMNS, Comparison, comparison_notes, comparison_rows
from rft.metrics.families import FAMILY_COLUMNS, family_rows
from rft.metrics.held_out import caveats
from rft.metrics.independent_report import independent_in_words
from rft.metrics.intervals import Estimate
from rft.metrics.retention_report import retention_header, retention_notes, retention_rows
from rft.models.origin import Origin
from rft.redaction import redacted
from rft.run_folder.card_origin import origin, original_path, package_origin
from rft.run_folder.model_snippets import QUESTION, Snippets, serve_model
from rft.wording import plural

CARD = """\
---
{front_matter}---

# {title}

{what}, {training} with rft {version}.

## Training data

{data}

Base model: `{base_model}`, fingerprint `{base_fingerprint}`.{origin}

## Graders

{graders}

The reward is the weighted sum of the scores. Completions on which a grader failed were left out, not counted as 0.

## Results

{results}

## How to use it

{use}

## Reproduction

{versions}

Seed {seed}, git commit {commit}. The command:

```bash
{command}
```

The resolved configuration:

~~~~yaml
{config}~~~~
"""

MERGED_CARD = """\
---
{front_matter}---

# {title}, merged with an adapter

The adapter `{adapter}` (fingerprint `{adapter_fingerprint}`), merged into the weights of `{base_model}` (fingerprint
`{base_fingerprint}`) by rft {version}.{origin} If the adapter has a card, `ADAPTER_README.md` contains it,
with training data, graders and results.

{proof}

## How to use it

{use}
"""

ADAPTER_USE = """\
With rft:

```bash
rft sample --adapter {folder} "{question}"
```

With PEFT:

```python
{peft}
```

{vllm}

As a plain model folder, for other programs: `rft merge adapter={folder} output_dir=merged`."""

VLLM_USE = """\
With vLLM, for architectures whose adapters it serves:

```python
{vllm}
```"""

MERGE_FOR_VLLM = "vLLM serves no {label} adapters; merge this one for vLLM."

MODEL_USE = """\
With rft:

```bash
rft sample --model {folder} "{question}"
```

With Transformers:

```python
{transformers}
```

With vLLM:

```python
{vllm}
```

As a server: `{serve}`."""


_RESULTS = {
    "lora": "A LoRA adapter for `{path}`",
    "rslora": "An rsLoRA adapter for `{path}`",
    "dora": "A DoRA adapter for `{path}`",
    "full": "All weights of `{path}` fine-tuned",
    "partial": "Some weights of `{path}` fine-tuned",
    "vera": "`{path}` with a VeRA adapter merged into its weights",
    "ia3": "`{path}` with an IA3 adapter merged into its weights",
}
"""Descriptions of the result, by `learner.adapter.method`."""


def model_card(
    summary: Mapping[str, Any],
    config: Mapping[str, Any],
    manifest: Mapping[str, Any],
    *,
    folder: Path,
    base_model: str,
) -> str:
    """Return the README.md of an adapter or a whole model, with the front matter for the hub.

    Args:
        summary: Result of `summary.build_summary`.
        config: The resolved configuration, in plain containers; the card omits its secrets.
        manifest: Result of `provenance.manifest`.
        folder: Folder of the adapter or model, from which the card's code loads it.
        base_model: Hub id or absolute folder of the base model.
    """
    path = manifest["base_model"]["path"]
    adapter = METHODS[config["learner"]["adapter"]["method"]].model_validate(config["learner"]["adapter"])
    is_adapter = adapter.publishes == "adapter"
    is_recorded = "recorded" in (config["learner"].get("pairs"), config["learner"].get("completions"))
    front_matter = {
        # The hub accepts only its own ids.
        **({} if Path(base_model).is_absolute() else {"base_model": base_model}),
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rft", *(["lora"] if is_adapter else []), *_tags(manifest["method"], is_recorded=is_recorded)],
    }
    git = manifest["git"]
    return CARD.format(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        title=f"{_last_name(original_path(manifest))}, fine-tuned with rft",
        training=_training(manifest["method"], is_recorded=is_recorded),
        base_model=path,
        what=_RESULTS[adapter.method].format(path=path),
        use=_use(config, adapter, _rank_below(manifest), folder.absolute(), base_model),
        base_fingerprint=manifest["base_model"]["fingerprint"],
        origin=origin(manifest, summary.get("original_base")),
        version=manifest["rft"],
        data=_data(manifest) + _examples(manifest),
        graders=_graders(manifest),
        results=_results(summary) + _feasibility(summary),
        versions=_table(["library", "version"], [("Python", manifest["python"]), *manifest["libraries"].items()]),
        seed=manifest["seed"],
        commit="unknown" if git is None else f"`{git['commit']}`" + (" with uncommitted changes" * git["is_dirty"]),
        command=shlex.join(manifest["command"]),
        config=yaml.safe_dump(redacted(config), sort_keys=False, allow_unicode=True),
    )


def merged_card(
    *,
    base_model: str,
    base_fingerprint: str,
    base_origin: Origin | None,
    adapter: str,
    adapter_fingerprint: str,
    proof: str,
    snippets: Snippets,
) -> str:
    """Return the README.md of an adapter merged into its base model.

    Args:
        base_model: Hub id or folder of the base model.
        base_fingerprint: Fingerprint of the base model's files.
        base_origin: Origin of a base model from a Python package; None for other models.
        adapter: Path of the adapter.
        adapter_fingerprint: Fingerprint of the adapter's weights.
        proof: The proof of the merge, in words.
        snippets: Code that uses the merged model.
    """
    front_matter = {
        **({} if Path(base_model).is_absolute() else {"base_model": base_model}),
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rft", "reinforcement-learning", "merge"],
    }
    return MERGED_CARD.format(
        front_matter=yaml.safe_dump(front_matter, sort_keys=False),
        title=_last_name(base_model),
        base_model=base_model,
        base_fingerprint=base_fingerprint,
        origin=package_origin(base_origin),
        adapter=adapter,
        adapter_fingerprint=adapter_fingerprint,
        version=__version__,
        proof=proof,
        use=model_use(snippets),
    )


def model_use(snippets: Snippets) -> str:
    """Return the usage of a whole model."""
    return MODEL_USE.format(
        folder=shlex.quote(str(snippets.folder)),
        question=QUESTION,
        transformers=snippets.transformers(),
        vllm=snippets.vllm(),
        serve=serve_model(snippets.folder),
    )


def _use(config: Mapping[str, Any], adapter: AdapterConfig, rank_below: int, folder: Path, base_model: str) -> str:
    """Return the usage of a run's result, with prompts like those of training."""
    snippets = Snippets(
        folder=folder,
        max_tokens=config["sampler"]["max_completion_tokens"],
        temperature=config["sampler"]["temperature"],
        system=config["data"]["system"],
        is_raw=config["data"]["format"] == "raw",
        template_options=config["model"]["chat_template_kwargs"],
        stop=config["sampler"].get("stop", ()),
    )
    if adapter.served_rank is None:
        return model_use(snippets)
    vllm = snippets.vllm_with_adapter(base_model, adapter.served_rank + rank_below)
    return ADAPTER_USE.format(
        folder=shlex.quote(str(folder)),
        question=QUESTION,
        peft=snippets.peft(),
        vllm=MERGE_FOR_VLLM.format(label=adapter.label) if adapter.needs_merge else VLLM_USE.format(vllm=vllm),
    )


def _rank_below(manifest: Mapping[str, Any]) -> int:
    """Return the rank of the frozen adapter that the published one contains; 0 without one."""
    start = manifest.get("start") or {}
    return int(start["rank"]) if start.get("mode") == "stack" else 0


def _training(method: str, *, is_recorded: bool) -> str:
    """Return how the result was trained, in words."""
    if is_recorded:
        rows = {"dpo": "pairs", "kto": "completions"}[method]
        return f"trained by preference optimization ({method.upper()}) on recorded {rows}"
    match method:
        case "fake":
            return "NOT TRAINED: written by `learner=fake`"
        case "sft":
            return "trained by supervised fine-tuning on demonstrations"
        case "distill":
            return "trained by on-policy distillation from a teacher"
    return f"trained by reinforcement fine-tuning ({method.upper()})"


def _tags(method: str, *, is_recorded: bool) -> list[str]:
    """Return the hub's tags of a method."""
    if is_recorded:
        return ["preference-optimization", method]
    special = {"sft": ["supervised-fine-tuning", "sft"], "distill": ["knowledge-distillation"]}
    return special.get(method, ["reinforcement-learning", method])


def _last_name(path: str) -> str:
    """Return the last part of a hub id or a path."""
    return path.rstrip("/").rpartition("/")[2]


def _data(manifest: Mapping[str, Any]) -> str:
    """Return source, number and content hash of the tasks."""
    rows = [
        (split, tasks["source"], tasks["num_tasks"], f"`{tasks['sha256']}`")
        for split, tasks in manifest["tasks"].items()
    ]
    return _table(["split", "source", "tasks", "SHA-256"], rows)


def _examples(manifest: Mapping[str, Any]) -> str:
    """Return the origin of the worked examples before the prompts; empty without any."""
    shots = manifest.get("prompts", {}).get("shots")
    if not shots:
        return ""
    return (
        f"\n\nEvery prompt began with {plural(shots['num'], 'worked example')} from `{shots['source']}` "
        "(`data.shots`). `shots.json` in the run folder lists them. `rft sample` and `rft evaluate` read them there; "
        "for other programs, write them into the prompt."
    )


def _graders(manifest: Mapping[str, Any]) -> str:
    """Return the graders with weights and code hashes."""
    rows = [
        (name, grader["weight"], grader["source"], f"`{grader['sha256']}`")
        for name, grader in manifest["graders"].items()
    ]
    return _table(["grader", "weight", "source", "SHA-256"], rows)


def _results(summary: Mapping[str, Any]) -> str:
    """Return before, after and difference, with the method of measurement."""
    evaluation = summary["eval"]
    labels = {"before": "before", "after": "after", "difference": "after - before, paired"}
    rows = [
        (label, Estimate.from_json(evaluation[name]).text(signed=name == "difference"), evaluation[name]["n"])
        for name, label in labels.items()
        if evaluation.get(name)
    ]
    if not rows:
        return f"Trained for {plural(summary['steps'], 'step')}; not measured on held-out tasks."
    how = [f"{key.replace('_', ' ')}: {value}" for key, value in evaluation.items() if key not in labels]
    about = f" ({', '.join(how)})" if how else ""
    best = summary.get("best")
    kept = f". The result is the policy of step {best['step']}, which the validation tasks rated best" if best else ""
    intro = f"Measured on held-out tasks before and after {plural(summary['steps'], 'step')}{about}{kept}:"
    notes = "".join(f"\n\n{label}: {caveat}." for label, caveat in caveats(evaluation).items())
    table = _table(["", "mean and 95% interval", "tasks"], rows)
    if independent := summary.get("independent"):
        notes += f"\n\n{independent_in_words(independent)}."
    return f"{intro}\n\n{table}{notes}{_family_results(summary)}{_arms(summary)}"


def _feasibility(summary: Mapping[str, Any]) -> str:
    """Return what samples said before the run; empty if it took none."""
    judged = summary.get("feasibility")
    return f"\n\nFeasibility, judged before the first step: {judged['text']}." if judged else ""


def _arms(summary: Mapping[str, Any]) -> str:
    """Return the four arms of a run with retrieval; empty for others."""
    if not (obj := summary.get("arms")):
        return ""
    comparison = Comparison.from_json(obj)
    parts = ["With and without passages, on the same tasks; differences are paired by task:"]
    if comparison.means:
        parts.append(_table(COMPARISON_COLUMNS, comparison_rows(comparison)))
    parts += [f"{note}." for note in comparison_notes(comparison)]
    return "".join(f"\n\n{part}" for part in parts)


def _family_results(summary: Mapping[str, Any]) -> str:
    """Return the results of task families, and how much of earlier stages is retained; empty without a mixture."""
    parts = []
    if families := summary.get("families"):
        parts += ["By task family:", _table(FAMILY_COLUMNS, family_rows(families))]
    if retained := summary.get("retention"):
        if len(retained["stages"]) > 2:  # otherwise, the table above shows both
            parts += ["Mean score after each stage:", _table(retention_header(retained), retention_rows(retained))]
        parts += [f"{note}." for note in retention_notes(retained)]
    return "".join(f"\n\n{part}" for part in parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    cells = ([str(cell).replace("|", r"\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)
