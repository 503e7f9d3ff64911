"""Hydra reads each file of configuration once in a test process, in place of once in each composition."""

from __future__ import annotations

import copy
from typing import Any

from hydra._internal.config_repository import ConfigRepository

from rft.config.presets import conf_dir

UNCHANGED = {str(conf_dir()), "hydra.conf", ""}
"""The sources that no test changes: the files of rft, those of Hydra, and the registered defaults."""


def read_once() -> None:
    """Keep what Hydra reads from `UNCHANGED`. Compositions change what they get, so each gets a copy."""
    kept: dict[str, Any] = {}
    load = ConfigRepository.load_config

    def load_once(repository: Any, config_path: str) -> Any:
        if not all(source.path in UNCHANGED for source in repository.sources):
            return load(repository, config_path)
        if config_path not in kept:
            kept[config_path] = load(repository, config_path)
        return copy.deepcopy(kept[config_path])

    ConfigRepository.load_config = load_once
