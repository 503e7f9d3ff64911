"""Reads the entries of `tools`, and makes their environment."""

from __future__ import annotations

import hashlib
import inspect
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rft.config.tools import ToolConfig
from rft.episodes.contract import ARGUMENTS, LoadedEnvironment
from rft.episodes.tools.built_in.source import BUILT_IN, BuiltInSource
from rft.episodes.tools.inspect_tools import InspectSource, is_inspect_tool
from rft.episodes.tools.mcp_source import McpSource
from rft.episodes.tools.play import ToolEnvironment
from rft.episodes.tools.schemas import NoSchema
from rft.episodes.tools.sources import ClassSource, FunctionSource
from rft.episodes.tools.tool import ToolSource
from rft.grading.loading.targets import did_you_mean, find_target


def load_source(
    name: str, entry: ToolConfig, declared: Sequence[Mapping[str, Any]] | None = None, fingerprint: str = ""
) -> ToolSource:
    """Return the source of one entry.

    Args:
        name: Name of the entry.
        entry: The entry.
        declared: What its MCP server offered at the start of the run; None asks it.
        fingerprint: That of its store at the start of the run; empty asks the store.

    Raises:
        ValueError: Its code cannot be imported, or a tool has no schema.
    """
    if entry.mcp is not None:
        return McpSource(name, entry, declared=declared)
    if entry.use is None:
        from rft.episodes.tools.search import SearchSource  # needs numpy and Jinja, which start slowly

        return SearchSource(name, entry, fingerprint)
    use = entry.use
    if use in BUILT_IN:
        return BuiltInSource(name, use, entry.options, entry.timeout_s)
    if use.endswith(".py") and os.path.isfile(use):
        raise ValueError(f"name the function or class in the file, as {use}:{name}")
    if ".py:" not in use:
        raise ValueError(
            f"there is no tool '{use}'{did_you_mean(use, BUILT_IN)}; rft has {', '.join(BUILT_IN)}, or name your own "
            "as path/to/file.py:function or path/to/file.py:Class"
        )
    target = find_target(use)
    if is_inspect_tool(target.object):
        return InspectSource(name, target, entry.options, entry.timeout_s)
    if not callable(target.object):
        raise ValueError(f"{use} is neither a function nor a class")
    kind = ClassSource if inspect.isclass(target.object) else FunctionSource
    return kind(name, target, entry.options, entry.timeout_s)


def load_tools(
    entries: Mapping[str, ToolConfig],
    *,
    max_invalid_calls: int,
    timeout_s: float = math.inf,
    offered: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    fingerprints: Mapping[str, str] | None = None,
) -> LoadedEnvironment:
    """Return the environment of tools.

    Args:
        entries: The entries of `tools`, by name.
        max_invalid_calls: See `ToolEnvironment`.
        timeout_s: See `ToolEnvironment`.
        offered: What MCP servers offered at the start of the run, by entry; others are asked.
        fingerprints: Those of the stores at the start of the run, by entry; others are asked.

    Raises:
        ValueError: All problems of the entries, one a line.
    """
    sources, declared, problems = [], {}, []
    for name, entry in entries.items():
        try:
            source = load_source(name, entry, (offered or {}).get(name), (fingerprints or {}).get(name, ""))
            declared[name] = source.declarations()
        except NoSchema as error:
            problems += [f"tools.{name}: {problem}" for problem in error.problems]
        except ValueError as error:
            problems.append(f"tools.{name}: {error}")
        else:
            sources.append(source)
    names = Counter(tool["function"]["name"] for tools in declared.values() for tool in tools)
    for tool in (name for name, number in names.items() if number > 1):
        owners = [name for name, tools in declared.items() if any(tool == each["function"]["name"] for each in tools)]
        problems.append(f"tools.{', tools.'.join(owners)}: the tool '{tool}' occurs {names[tool]} times; rename one")
    if scoring := [source.name for source in sources if source.has_score][1:]:
        problems.append(f"tools.{', tools.'.join(scoring)}: another entry has a get_reward already; keep one")
    if problems:
        raise ValueError("\n".join(problems))
    return LoadedEnvironment(
        call=ToolEnvironment(sources, max_invalid_calls=max_invalid_calls, timeout_s=timeout_s).play,
        takes=ARGUMENTS,
        use="tools",
        file=next((source.file for source in sources if source.file), ""),
        sha256=hashlib.sha256(" ".join(source.sha256 for source in sources).encode()).hexdigest(),
        tools=tuple(tool for tools in declared.values() for tool in tools),
        entry_of={tool["function"]["name"]: entry for entry, tools in declared.items() for tool in tools},
        fingerprints={source.name: source.fingerprint for source in sources if hasattr(source, "fingerprint")},
        has_score=any(source.has_score for source in sources),
        requires=tuple(source.require_task for source in sources if isinstance(source, (BuiltInSource, ClassSource))),
        speaks=any(source.speaks for source in sources),
    )
