"""The environment of a configuration."""

from __future__ import annotations

from rft.config import EvaluateConfig, RunConfig
from rft.episodes.contract import LoadedEnvironment, load_environment
from rft.errors import UsageError


def environment_of(config: RunConfig | EvaluateConfig) -> LoadedEnvironment | None:
    """Return the environment of a configuration; None without one.

    Raises:
        UsageError: It cannot be imported, or is no environment.
    """
    if config.environment.use is None:
        return None
    try:
        return load_environment(config.environment.use, config.environment.options, config.environment.style)
    except ValueError as error:
        raise UsageError("environment", [f"environment.use={config.environment.use}: {error}"]) from error
