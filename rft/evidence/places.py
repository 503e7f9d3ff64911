"""What a place of `rft compare` is: something measured, or an adapter or a base model that can be."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from rft.config.adapter_settings import run_folder_of
from rft.evidence.measured import runs_in
from rft.models.adapter_folder import CONFIG as ADAPTER_CONFIG
from rft.models.adapter_folder import whole_model
from rft.models.base_model import LOCAL_NAMES
from rft.run_folder.rollout_files import rollout_paths

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place and its name.

    Example:
        Place(name="base", given="embedded:tiny", model="embedded:tiny")
    """

    name: str
    """Name in the tables."""
    given: str
    """The place as the user wrote it."""
    adapter: str | None = None
    """The adapter to measure: an adapter folder, or a run folder whose rollouts are gone."""
    model: str | None = None
    """The base model to measure: a folder, or a name that `rft.models.base_model.locate` knows."""

    @property
    def is_recorded(self) -> bool:
        """Whether somebody measured it."""
        return self.adapter is None and self.model is None


def place_of(given: str, *, name: str) -> Place:
    """Tell what a place is. A folder with recorded completions is never taken for a model or an adapter.

    Args:
        given: The place.
        name: Name in the tables.

    Raises:
        ValueError: It is nothing that can be compared, or it is two things.
    """
    path = Path(given).expanduser()
    if given.startswith(LOCAL_NAMES):
        return Place(name=name, given=given, model=given)
    if not os.path.exists(path):
        if _HUB_ID.fullmatch(given) and not os.path.exists(path.parent):
            return Place(name=name, given=given, model=given)
        raise ValueError(f"{given}: no such file or folder")
    if path.is_file() or rollout_paths(path) or any(runs_in(path)):
        return Place(name=name, given=given)
    has_model = (path / "config.json").is_file()
    has_adapter = (path / ADAPTER_CONFIG).is_file()
    if has_model and has_adapter:
        raise ValueError(
            f"{given}: it holds both a model (config.json) and an adapter ({ADAPTER_CONFIG}); put the one to compare "
            "into a folder of its own"
        )
    if has_model or (model := whole_model(path)) is not None:
        return Place(name=name, given=given, model=str(path if has_model else model))
    if has_adapter or (path / "adapter").is_dir():
        return Place(name=name, given=given, adapter=str(path))
    if run_folder_of(path) is not None:
        raise ValueError(f"{given}: it has neither recorded completions nor an adapter; its run has not come that far")
    raise ValueError(
        f"{given}: neither a run (rollouts.jsonl), an adapter ({ADAPTER_CONFIG}) nor a base model (config.json)"
    )
