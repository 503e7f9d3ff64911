"""Creates the folder of a new training run, or cuts the folder of a resumed run back to its checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rft.config import RunConfig, audit_folder
from rft.config.mixture import SPLITS, sources
from rft.data.shots import FILE as SHOTS
from rft.grading.sandbox import Sandbox
from rft.grading.verdicts import audit_state
from rft.models.origin import read_origin
from rft.redaction import hide_in_words, redacted
from rft.run.base_models.start_adapter import merges_start, save_parent
from rft.run.inputs.grounded_tasks import FILE as PASSAGES
from rft.run.inputs.prepare import Prepared
from rft.run.playing.environment import environment_changes, environment_facts
from rft.run.playing.tool_facts import refuse_changed_tools, tool_changes, tool_facts
from rft.run.task_order import shares_of
from rft.run.teachers.read_teachers import save_teachers, teacher_changes, teacher_facts
from rft.run_folder.copies import State, check_copy, fetch_run, holds_checkpoint
from rft.run_folder.find_checkpoint import can_be_resumed, last_checkpoint, set_aside_later_checkpoints
from rft.run_folder.provenance import manifest
from rft.run_folder.recorder import Recorder, prepare_output
from rft.run_folder.retention_file import keep_stages_of
from rft.storage import Place

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where a run starts or continues.

    Example:
        Start(checkpoint=Path("runs/a/checkpoints/checkpoint-20"), last_step=20)
    """

    checkpoint: Path | None = None
    """The checkpoint to continue from; None to begin."""
    last_step: int | None = None
    """The step of the checkpoint; 0 for a run that was stopped before its first checkpoint and begins again; None for
    a new run."""
    fetched: Mapping[str, State] = field(default_factory=dict)
    """Files that were fetched from the copy in storage, by their path in the run folder."""


def start_of(run: RunConfig, *, say: Callable[[str], None], warn: Callable[[str], None]) -> Start:
    """Find the checkpoint of a run that continues, and fetch the run from storage if its folder holds none of it.

    Args:
        run: The configuration. With `or_resume`, a run without a checkpoint begins again.
        say: Receives a message before the run is fetched.
        warn: Receives a sentence about damaged checkpoints.

    Raises:
        OutputError: The run has no whole checkpoint.
        StorageError: The copy cannot be read.
    """
    folder, fetched = Path(run.output_dir), dict[str, State]()
    if run.resume is None:
        return Start()
    if run.resume == run.output_dir:
        has_checkpoint = can_be_resumed(folder) or not run.or_resume
    else:
        copy = Place(run.resume)
        has_checkpoint = not run.or_resume or holds_checkpoint(copy)
        if has_checkpoint:
            say(f"bringing the run from {copy} to {folder}")
            fetched = fetch_run(copy, folder, deadline_s=run.storage_timeout_s)
    if not has_checkpoint:
        return Start(last_step=0)
    checkpoint, step = last_checkpoint(folder, warn)
    return Start(checkpoint=checkpoint, last_step=step, fetched=fetched)


def open_recorder(run: RunConfig, prepared: Prepared, command: Sequence[str], last_step: int | None) -> Recorder:
    """Create the run folder, or cut it back to the checkpoint of `last_step`; write manifest and configuration.

    Args:
        run: The configuration.
        prepared: Its inputs.
        command: The command line, for the manifest.
        last_step: `Start.last_step`.

    Raises:
        OutputError: The folder, or the place of its copy, holds another run or cannot be written.
        UsageError: An MCP server offers other tools than at the start of the run.
        WriteError: The folder of a resumed run cannot be written.
    """
    if last_step:
        refuse_changed_tools(run, prepared.environment, Path(run.output_dir) / MANIFEST)
    if run.storage:
        check_copy(Place(run.storage), last_step)
    folder = Path(run.output_dir)
    with_tokens = run.logging.completions_with_tokens
    if last_step is None:
        prepare_output(folder)
        recorder = Recorder(folder, completions_with_tokens=with_tokens)
    else:
        set_aside_later_checkpoints(folder, last_step)
        recorder = Recorder.resume(folder, last_step=last_step or None, completions_with_tokens=with_tokens)
    if not last_step:
        recorder.document(MANIFEST, json.dumps(manifest_of(run, prepared, command), indent=2) + "\n")
        if prepared.parent is not None:
            save_parent(folder, prepared.parent)
        save_teachers(folder, prepared.teachers)
        if run.start is not None:
            keep_stages_of(run.start, folder)
        if prepared.renderer.shots is not None:
            recorder.document(SHOTS, prepared.renderer.shots.to_text())
        if prepared.grounded is not None:
            recorder.document(PASSAGES, prepared.grounded.to_text())
    recorder.config(run.model_dump())
    return recorder


def manifest_of(run: RunConfig, prepared: Prepared, command: Sequence[str]) -> dict[str, Any]:
    """Return the content of manifest.json for a run that starts now."""
    tasks, data = prepared.tasks, run.data
    named = {split: ", ".join(sources(data, split).values()) for split in SPLITS}
    share = f"{data.validation_share:g} of {named['train']}"
    origins = {
        "train": (named["train"], tasks.train),
        "validation": (named["validation"] or share, tasks.validation),
        "test": (named["test"], tasks.test),
    }
    shares = shares_of(data, tasks.train)
    mixture = {
        name: {"share": shares.get(name, 0.0), "graders": family.graders} for name, family in data.mixture.items()
    }
    audit = {"audit": {"graders": audit_state(audit_folder(run.grading), run.graders), "policy": run.audit}}
    prompts: dict[str, Any] = {
        "format": data.format,
        "chat_template_sha256": prepared.renderer.template_sha256,
        "chat_template_kwargs": redacted(dict(run.model.chat_template_kwargs)),
    }
    if (shots := prepared.renderer.shots) is not None:
        prompts["shots"] = shots.to_manifest()
    if prepared.grounded is not None:
        prompts["retrieval"] = prepared.grounded.to_manifest()
    return (
        audit
        | {"prompts": prompts}
        | ({"mixture": mixture} if mixture else {})
        | ({"start": dict(prepared.parent.origin)} if prepared.parent else {})
        | teacher_facts(prepared.teachers)
        | _advantage(run)
        | tool_facts(run, prepared.environment)
        | ({"environment": environment_facts(prepared.environment)} if prepared.environment else {})
        | manifest(
            method=run.learner.kind,
            seed=run.seed,
            command=hide_in_words(command, run.model_dump()),
            base_model=_base_model(run, prepared),
            tasks={split: (source, of_split) for split, (source, of_split) in origins.items() if of_split},
            graders={
                grader.name: {"weight": grader.weight, "source": grader.use, "sha256": grader.sha256}
                | ({"model_fingerprint": grader.model_fingerprint} if grader.model_fingerprint else {})
                for grader in prepared.graders
            },
            sandbox=Sandbox(allow_unsafe=True).describe(),
        )
    )


def _base_model(run: RunConfig, prepared: Prepared) -> dict[str, Any]:
    """Return path and fingerprint of the base model, its origin in a Python package, and its quantization."""
    is_own = prepared.quantization is not None or merges_start(prepared.parent)
    path = str(prepared.model) if is_own else run.model.path or ""
    facts: dict[str, Any] = {"path": path, "fingerprint": prepared.base.fingerprint}
    if (origin := read_origin(prepared.model)) is not None:
        facts["origin"] = asdict(origin)
    if prepared.quantization is not None:
        facts["quantized"] = prepared.quantization.model_dump()
    return facts


def code_changes(run: RunConfig, prepared: Prepared, folder: Path) -> list[str]:
    """Return one warning for each grader, tool, teacher and function of advantages that changed since a run began.

    Args:
        run: The configuration of the resumed run.
        prepared: Its inputs.
        folder: The run folder. Without a manifest there is nothing to compare with.
    """
    file = folder / MANIFEST
    if not file.is_file():
        return []
    begun = json.loads(file.read_text(encoding="utf-8"))
    graders = {grader.name: (f"graders.{grader.name} ({grader.use})", grader.sha256) for grader in prepared.graders}
    changed = [name for key, (name, sha256) in graders.items() if begun["graders"].get(key, {}).get("sha256") != sha256]
    changed += [
        f"graders.{grader.name}.model ({grader.use})"
        for grader in prepared.graders
        if grader.model_fingerprint != begun["graders"].get(grader.name, {}).get("model_fingerprint")
    ]
    changed += teacher_changes(prepared.teachers, begun)
    changed += [
        f"tools.{name} ({', '.join(what)})" for name, what in tool_changes(run, prepared.environment, begun).items()
    ]
    changed += environment_changes(prepared.environment, begun.get("environment"))
    advantage = _advantage(run).get("advantage")
    if advantage is not None and begun.get("advantage", advantage)["sha256"] != advantage["sha256"]:
        changed.append(f"learner.advantage ({advantage['source']})")
    return [
        f"{name} has changed since the run began; the remaining steps use the changed code, so the result differs from "
        "that of an uninterrupted run"
        for name in changed
    ]


def _advantage(run: RunConfig) -> dict[str, dict[str, str]]:
    """Return the user's file with the function of advantages, and its hash; empty if rft computes the advantages."""
    file = run.learner.user_file()
    if file is None:
        return {}
    return {"advantage": {"source": str(file), "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}}
