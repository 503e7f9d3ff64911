"""`or_resume=true`: the same command starts a run, and continues it after it has begun."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rft.config.compose import check
from rft.config.resume import MAY_CHANGE_ON_RESUME, may_change, read_config_of, read_copy
from rft.config.schema import RunConfig
from rft.errors import ConfigError
from rft.redaction import redacted, restored
from rft.storage import ANSWER_S, Place
from rft.waiting import within

_OF_THE_START = ("output_dir", "resume", "or_resume")
"""Keys that say how a run starts, not what it is."""


def resumed_if_begun(run: RunConfig, *, has_own_folder: bool) -> RunConfig:
    """Return the configuration, with `resume` set if the run has begun: in its folder, or only in its copy in storage.

    Args:
        run: The configuration as the command gives it.
        has_own_folder: Whether the command gives `output_dir`, so that its repetition uses the same folder.

    Raises:
        ConfigError: The command has no folder of its own, or gives another configuration than the run began with.
        StorageError: The copy cannot be read.
    """
    if not has_own_folder:
        problem = "or_resume=true: give output_dir=<folder>, too; the default folder is a new one at every start"
        raise ConfigError("configuration", [problem])
    if os.path.isfile(file := Path(run.output_dir, "config.yaml")):  # False for names that are too long
        place, values = run.output_dir, read_config_of(file)
    elif run.storage is not None and (copied := _copied(Place(run.storage))) is not None:
        place, values = run.storage, copied
    else:
        return run
    began = check(RunConfig, restored(values)[0], lambda _: [])
    if changes := _changes(began, run):
        raise ConfigError(
            f"or_resume=true: {place} holds a run with another configuration; give its values, or another output_dir",
            changes,
        )
    return run.model_copy(update={"resume": place})


def _copied(copy: Place) -> dict[str, Any] | None:
    """Return the configuration of a copy in storage; None if there is no copy."""
    holds = within(lambda: copy.holds("config.yaml"), what=f"a reply of {copy}", deadline_s=ANSWER_S)
    return read_copy(copy) if holds else None


def _changes(began: RunConfig, now: RunConfig) -> list[str]:
    """Return a sentence for each key that differs and may not change on resume. Secrets are not compared."""
    before, after = (dict(_leaves(redacted(one.model_dump()))) for one in (began, now))
    return [
        f"{key}={after.get(key)}: the run began with {before.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not may_change(key, (*MAY_CHANGE_ON_RESUME, *_OF_THE_START))
    ]


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
