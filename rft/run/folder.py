"""Creates the folder of a new training run, or cuts the folder of a resumed run back to its checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rft.config import RunConfig, audit_folder
from rft.grading.sandbox import Sandbox
from rft.grading.verdicts import audit_state
from rft.redaction import hide_in_words, redacted
from rft.run.inputs import Prepared
from rft.run_folder.copies import check_copy
from rft.run_folder.provenance import manifest
from rft.run_folder.recorder import Recorder, prepare_output
from rft.storage import Place

MANIFEST = "manifest.json"


def open_recorder(run: RunConfig, prepared: Prepared, command: Sequence[str], last_step: int | None) -> Recorder:
    """Create the run folder, or cut it back to the checkpoint of `last_step`; write manifest and configuration.

    Raises:
        OutputError: The folder, or the place of its copy, holds another run or cannot be written.
    """
    if run.storage:
        check_copy(Place(run.storage), last_step)
    folder = Path(run.output_dir)
    if last_step is None:
        prepare_output(folder)
        recorder = Recorder(folder)
        recorder.document(MANIFEST, json.dumps(manifest_of(run, prepared, command), indent=2) + "\n")
    else:
        recorder = Recorder.resume(folder, last_step=last_step)
    recorder.config(run.model_dump())
    return recorder


def manifest_of(run: RunConfig, prepared: Prepared, command: Sequence[str]) -> dict[str, Any]:
    """Return the content of manifest.json for a run that starts now."""
    tasks, data = prepared.tasks, run.data
    share = f"{data.validation_share:g} of {data.train}"
    sources = {
        "train": (data.train, tasks.train),
        "validation": (data.validation or share, tasks.validation),
        "test": (data.test, tasks.test),
    }
    audit = {"audit": {"graders": audit_state(audit_folder(run.grading), run.graders), "policy": run.audit}}
    prompts = {
        "format": data.format,
        "chat_template_sha256": prepared.renderer.template_sha256,
        "chat_template_kwargs": redacted(dict(run.model.chat_template_kwargs)),
    }
    return (
        audit
        | {"prompts": prompts}
        | _advantage(run)
        | manifest(
            method=run.learner.kind,
            seed=run.seed,
            command=hide_in_words(command, run.model_dump()),
            base_model=run.model.path or "",
            base_fingerprint=prepared.base.fingerprint,
            tasks={split: (str(source), of_split) for split, (source, of_split) in sources.items() if of_split},
            graders={
                grader.name: {"weight": grader.weight, "source": grader.use, "sha256": grader.sha256}
                | ({"model_fingerprint": grader.model_fingerprint} if grader.model_fingerprint else {})
                for grader in prepared.graders
            },
            sandbox=Sandbox(allow_unsafe=True).describe(),
        )
    )


def code_changes(run: RunConfig, prepared: Prepared, folder: Path) -> list[str]:
    """Return one warning for each grader, and for the function of advantages, that changed since a run began.

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
