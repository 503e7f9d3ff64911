"""Creates the user's sinks of `logging.sinks`, and the trackers of `logging.report_to`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from rft.config import RunConfig
from rft.errors import ConfigError
from rft.events import Sink
from rft.grading.loading.targets import did_you_mean, import_file
from rft.grading.normalise import describe_error
from rft.trackers import open_tracker

SinkClass = Callable[[], Sink]


def load_sink(use: str) -> SinkClass:
    """Import the class of a sink.

    Args:
        use: `path/to/file.py:Class`, relative to the working directory.

    Raises:
        ConfigError: There is no such file or class, or the class is no sink.
    """
    path, _, name = use.rpartition(":")
    if not path.endswith(".py"):
        raise ConfigError("sinks", [f"logging.sinks={use}: write path/to/file.py:Class"])
    try:
        module = import_file(Path(path))
    except ValueError as error:
        raise ConfigError("sinks", [f"logging.sinks={use}: {error}"]) from error
    sink: Any = vars(module).get(name)
    if problem := _problem(sink, name, module):
        raise ConfigError("sinks", [f"logging.sinks={use}: {problem}"])
    loaded: SinkClass = sink
    return loaded


def _problem(sink: Any, name: str, module: ModuleType) -> str:
    """Return the problem of a sink's class; empty without a problem."""
    if not inspect.isclass(sink):
        classes = [key for key, value in vars(module).items() if inspect.isclass(value)]
        return f"the file has no class {name}{did_you_mean(name, classes)}; it has: {', '.join(classes) or 'none'}"
    missing = [method for method in ("event", "close") if not callable(getattr(sink, method, None))]
    if missing:
        return f"a sink has the methods event(event) and close(); {name} lacks {' and '.join(missing)}"
    try:
        inspect.signature(sink).bind()
    except TypeError as error:
        return f"a sink is created without arguments: {name}(): {error}"
    return ""


def optional_sinks(run: RunConfig, classes: Mapping[str, SinkClass]) -> dict[str, Sink]:
    """Create the trackers of a run and the user's own sinks, by name.

    Args:
        run: The configuration.
        classes: From `load_sink`, by `use`.

    Raises:
        ConfigError: A class raised, with every one that did.
    """
    sinks: dict[str, Sink] = {name: open_tracker(name) for name in dict.fromkeys(run.logging.report_to)}
    problems = []
    for use, create in classes.items():
        try:
            sinks[use] = create()
        except Exception as error:
            problems.append(f"logging.sinks={use}: {describe_error(error, inspect.getsourcefile(create) or '')}")
    if problems:
        raise ConfigError("sinks", problems)
    return sinks
