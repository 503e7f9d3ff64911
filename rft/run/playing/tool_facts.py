"""The tools of a run in its manifest, and what has changed about them when it resumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rft.config import RunConfig
from rft.config.tools import ToolConfig
from rft.episodes.contract import LoadedEnvironment
from rft.episodes.tools.pins import Pins, changes, pins_of
from rft.errors import UsageError


def tool_facts(run: RunConfig, environment: LoadedEnvironment | None) -> dict[str, Any]:
    """Return the digests of the tools and the fingerprints of the stores that they search, by entry, for the manifest.

    Empty without tools.
    """
    stores = {"tool_stores": dict(environment.fingerprints)} if environment and environment.fingerprints else {}
    return stores | ({"tools": pins} if (pins := _pins(run, environment)) else {})


def tool_changes(run: RunConfig, environment: LoadedEnvironment | None, begun: dict[str, Any]) -> dict[str, list[str]]:
    """Return what has changed about the tools of each entry since a run began; nothing for entries without changes.

    Args:
        run: The configuration of the resumed run.
        environment: Its environment.
        begun: The manifest.
    """
    before = begun.get("tools", {})
    changed = {name: changes(before.get(name, {}), pins) for name, pins in _pins(run, environment).items()}
    return {name: what for name, what in changed.items() if what}


def refuse_changed_tools(run: RunConfig, environment: LoadedEnvironment | None, manifest: Path) -> None:
    """Refuse to resume with an MCP server that offers other tools than at the start of the run, or a changed store.

    A changed tool of the user's own is warned of, as changed graders are.

    Raises:
        UsageError: It does; the error says what has changed.
    """
    if not run.tools or not manifest.is_file():
        return
    begun = json.loads(manifest.read_text(encoding="utf-8"))
    changed = tool_changes(run, environment, begun)
    problems = [
        f"tools.{name}.mcp={run.tools[name].mcp}: the server's tools have changed since the run began "
        f"({', '.join(what)}); bring back what it offered, or begin a new run with start=<the run's folder>"
        for name, what in changed.items()
        if run.tools[name].mcp is not None
    ]
    problems += _changed_stores(environment, begun.get("tool_stores", {}))
    if problems:
        raise UsageError("the run cannot go on with these tools", problems)


def _changed_stores(environment: LoadedEnvironment | None, before: Mapping[str, str]) -> list[str]:
    now = environment.fingerprints if environment is not None else {}
    return [
        f"tools.{name}: the store has changed since the run began (fingerprint {now[name]} instead of {before[name]}); "
        "bring back what it held, or begin a new run with start=<the run's folder>"
        for name in sorted(now.keys() & before.keys())
        if now[name] != before[name]
    ]


def _pins(run: RunConfig, environment: LoadedEnvironment | None) -> dict[str, Pins]:
    if environment is None:
        return {}
    return {entry: pins_of(environment.tools_of(entry)) for entry in run.tools}


def server_warnings(tools: Mapping[str, ToolConfig]) -> list[str]:
    """Return a warning for each MCP server that is a command, which every episode starts anew."""
    return [
        f"tools.{name}.mcp: every episode starts the command anew, which may take seconds of processor time; if its "
        f"tools keep no state between calls, set tools.{name}.shared=true"
        for name, entry in tools.items()
        if entry.mcp is not None and not entry.shared and "://" not in entry.mcp
    ]
