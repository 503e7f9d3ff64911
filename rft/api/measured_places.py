"""Measures the places of `rft compare` that nobody measured: adapters and base models."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from rft.api.calls import pass_on_interrupt
from rft.api.evaluate import measure
from rft.config import EvaluateConfig
from rft.config.like_run import load_like
from rft.evidence.measured import Measured, expected
from rft.evidence.places import Place
from rft.models.base_model import fingerprint
from rft.redaction import redacted
from rft.run.base_models.measured_adapter import with_base_model
from rft.run.inputs.fitting import Reuse, collect
from rft.run.inputs.prepare import Inputs, read_inputs
from rft.run_folder.provenance import sha256_of_tasks
from rft.run_folder.recorder import CONFIG, SUMMARY
from rft.types import Adapter

_NOT_MEASURED: dict[str, Any] = {
    "adapter": True,
    "dry_run": True,
    "name": True,
    "output_dir": True,
    "model": {"path", "chat_template"},
}
"""Keys that do not change a measurement. Adapter, base model and template count by their contents instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A measurement whose inputs are checked.

    Example:
        Planned(name="base", config=EvaluateConfig(...), folder=Path("runs/compare/base-1f0c2a9b77d3"),
                is_finished=False, expected=Measured(...))
    """

    name: str
    """Name of the place."""
    config: EvaluateConfig
    """The configuration."""
    folder: Path
    """The folder of the measurement."""
    is_finished: bool
    """Whether an earlier call measured the same."""
    expected: Measured
    """What the measurement will have: tasks and graders, without values."""


def plan_measurements(
    places: Sequence[Place], like: Path | None, keys: Sequence[str], *, out: Path, reuse: Reuse, problems: list[str]
) -> list[Planned]:
    """Compose the configurations of measurements, and read and check their inputs. Nothing is written.

    Args:
        places: Adapters and base models.
        like: The recorded run that gives tasks, graders and sampling options; None if only the keys do.
        keys: Keys of the command line.
        out: The folder with the folders of measurements.
        reuse: Cache shared by all measurements.
        problems: Receives all problems.
    """
    found: list[str] = []
    planned = [
        one
        for place in places
        if (one := collect(found, lambda place=place: _plan(place, like, keys, out, reuse)))  # type: ignore[misc]
    ]
    if found and like is None:
        found.append(
            f"{places[0].given} is not measured yet, and no place is a run that says on what; name such a run, or give "
            "tasks and graders: data.test=<file> graders.<name>.use=<grader>"
        )
    problems += dict.fromkeys(found)  # places share most problems
    return planned


def _plan(place: Place, like: Path | None, keys: Sequence[str], out: Path, reuse: Reuse) -> Planned:
    config = load_like(like, keys, model=place.model, adapter=place.adapter, output_dir=str(out / "new"))
    config, adapter = with_base_model(config)
    inputs = read_inputs(config, needs_training_tasks=False, adapter=adapter, reuse=reuse)
    folder, is_finished = free_or_finished(out, place.name, _digest(config, inputs, adapter, reuse))
    return Planned(
        name=place.name,
        config=config.model_copy(update={"output_dir": str(folder), "name": "compare"}),
        folder=folder,
        is_finished=is_finished,
        expected=expected(
            place.name,
            Path(place.given),
            inputs.tasks.test,
            redacted(config.model_dump()),
            {grader.name: grader.sha256 for grader in inputs.graders},
        ),
    )


def _digest(config: EvaluateConfig, inputs: Inputs, adapter: Adapter | None, reuse: Reuse) -> str:
    """Return a hash that changes with anything that determines a measurement."""
    content: dict[str, Any] = {
        "config": redacted(config.model_dump(exclude=_NOT_MEASURED)),
        "base": reuse.get(("base", inputs.model), lambda: fingerprint(inputs.model)),
        "adapter": adapter.policy.fingerprint if adapter else None,
        "template": inputs.tokenizer.chat_template,
        "tasks": sha256_of_tasks(inputs.tasks.test),
        "graders": {grader.name: grader.sha256 for grader in inputs.graders},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def free_or_finished(out: Path, name: str, digest: str) -> tuple[Path, bool]:
    """Return the folder of a measurement, and whether it is finished. An interrupted one is left alone.

    Args:
        out: The folder with all of them.
        name: Name of the place.
        digest: Hash of all that determines the measurement.
    """
    stem = re.sub(r"[^\w.-]+", "_", name) + f"-{digest[:12]}"
    folder = out / stem
    for number in itertools.count(2):
        if (is_finished := _is_finished(folder)) or not (folder / CONFIG).exists():
            break
        folder = out / f"{stem}-{number}"
    return folder, is_finished


def _is_finished(folder: Path) -> bool:
    file = folder / SUMMARY
    return file.is_file() and json.loads(file.read_text(encoding="utf-8")).get("status") == "finished"


def measure_planned(planned: Planned, console: Console, reuse: Reuse, tell: Callable[[str], None]) -> None:
    """Measure, unless an earlier call has.

    Raises:
        RftError: The measurement failed.
        KeyboardInterrupt: Ctrl-C ended the measurement.
    """
    if planned.is_finished:
        tell(f"{planned.name}: measured by an earlier comparison, in {planned.folder}")
        return
    measured = measure(planned.config, console, reuse=reuse)
    if isinstance(measured, int):
        pass_on_interrupt(measured)
        raise KeyboardInterrupt  # the signal had no effect, and there is nothing to compare
    tell(f"{planned.name}: measured now, in {planned.folder}")
