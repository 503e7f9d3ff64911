"""Loads the settings of a store alone, for commands that need no run."""

from __future__ import annotations

from collections.abc import Sequence

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rft.config.compose import check, compose, usable_overrides
from rft.config.fields import Section
from rft.config.presets import COMPOSING, explained
from rft.config.retrieval import Retrieval
from rft.config.retrieval.base import RetrievalConfig
from rft.errors import ConfigError
from rft.redaction import hide_in_words


class StoreConfig(Section):
    """The settings of a store."""

    retrieval: Retrieval
    """Where passages are found."""


def load_store(overrides: Sequence[str]) -> RetrievalConfig:
    """Load the settings of a store.

    Args:
        overrides: As on the command line, such as `retrieval=mongodb_atlas` and `retrieval.collection=posts`.

    Raises:
        ConfigError: Contains all problems.
    """
    others = [word for word in overrides if not word.lstrip("+").startswith(("retrieval=", "retrieval."))]
    if others:
        shown = ", ".join(hide_in_words(others, {}))
        raise ConfigError("configuration", [f"{shown}: only keys of retrieval belong here, as retrieval=local"])
    usable, problems = usable_overrides(overrides, "evaluate")
    try:
        composed = compose("evaluate", usable)
        values = OmegaConf.to_container(composed.retrieval, resolve=True)
    except (*COMPOSING, OmegaConfBaseException) as error:
        raise ConfigError("configuration", [*problems, *hide_in_words([explained(error)], {})]) from error
    loaded = check(StoreConfig, {"retrieval": values}, lambda config: config.retrieval.problems(), problems)
    return loaded.retrieval
