"""Functions and classes as sources of tools."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from rft.episodes.left_threads import in_thread
from rft.episodes.tools.schemas import NoSchema, place_of, schema_of
from rft.episodes.tools.tool import OpenTools, Tool
from rft.grading.loading.targets import Target
from rft.types import Task

GIVEN = ("task", "seed")
"""Parameters that rft passes itself; a model does not see them."""
NO_TOOLS = ("reset", "close", "get_reward")
"""Public methods of a class that are no tools."""


async def run(function: Callable[..., Any], /, **arguments: Any) -> Any:
    """Call a function: a coroutine function on the event loop, any other in a thread.

    A decorator may hide that a function returns a coroutine, which is then awaited.
    """
    if asyncio.iscoroutinefunction(function):
        return await function(**arguments)
    result = await in_thread(function, **arguments)
    return await result if inspect.isawaitable(result) else result


class FunctionSource:
    """A function as one tool, under the name of its entry.

    Args:
        name: Name of the entry.
        target: The function and its file.
        options: Arguments that every call gets; the model does not see them.
        timeout_s: Deadline of a call.

    Raises:
        ValueError: The function has no schema, or takes no such option.
    """

    has_score = speaks = False

    def __init__(self, name: str, target: Target, options: Mapping[str, Any], timeout_s: float) -> None:
        self.name, self.file, self.sha256 = name, target.file, target.sha256
        self._options, self._timeout_s = dict(options), timeout_s
        self._function = target.object
        self._takes = set(inspect.signature(target.object).parameters)
        _require_known(options, self._takes, name)
        hidden = {*options, *GIVEN}
        self._description, self._parameters = schema_of(target.object, name=name, hidden=hidden)

    def declarations(self) -> list[dict[str, Any]]:
        """Return the tool in OpenAI's format."""
        return [self._tool(self._function).schema()]

    @asynccontextmanager
    async def open(self, task: Task, seed: int) -> AsyncIterator[OpenTools]:
        """Open the tool for an episode."""
        given = {"task": task, "seed": seed}
        own = {name: given[name] for name in GIVEN if name in self._takes}
        function = partial(self._function, **own, **self._options)
        yield OpenTools(tools=(self._tool(function),))

    def _tool(self, function: Callable[..., Any]) -> Tool:
        async def call(arguments: Mapping[str, Any]) -> Any:
            return await run(function, **arguments)

        return Tool(
            name=self.name,
            description=self._description,
            parameters=self._parameters,
            call=call,
            timeout_s=self._timeout_s,
        )


class ClassSource:
    """A class whose public methods are tools, with one instance for each episode.

    `reset(**row)` is called at the start, with the columns of the row, and may return a text that the model is told.
    `get_reward()` is called after the last turn, and `close()` at the end. All three are optional. The calls of one
    instance run one after another, in the order of the calls.

    Args:
        name: Name of the entry.
        target: The class and its file.
        options: Arguments of the class.
        timeout_s: Deadline of a call.

    Raises:
        ValueError: The class has no tools, a method has no schema, or it takes no such option.
    """

    def __init__(self, name: str, target: Target, options: Mapping[str, Any], timeout_s: float) -> None:
        self.name, self.file, self.sha256 = name, target.file, target.sha256
        self._class, self._options, self._timeout_s = target.object, dict(options), timeout_s
        methods = inspect.getmembers(target.object, inspect.isfunction)
        names = [each for each, method in methods if not each.startswith("_") and each not in NO_TOOLS]
        if not names:
            raise ValueError(f"the class {target.object.__name__} has no public methods that could be tools; add one")
        self.has_score = hasattr(target.object, "get_reward")
        self.speaks = hasattr(target.object, "reset")
        takes = set(inspect.signature(target.object).parameters)
        _require_known(options, takes, name)
        self._takes = [each for each in GIVEN if each in takes]
        self._schemas = _schemas(target.object, names)

    def declarations(self) -> list[dict[str, Any]]:
        """Return the tools in OpenAI's format."""
        return [tool.schema() for tool in self._tools(self._class, asyncio.Lock())]

    def require_task(self, task: Task) -> None:
        """Check that a task has the columns that `reset` needs.

        Raises:
            ValueError: It lacks some.
        """
        if not self.speaks:
            return
        reset = self._class.reset
        needed = {
            each.name
            for each in inspect.signature(reset).parameters.values()
            if each.default is each.empty and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
        }
        if missing := sorted(needed - {"self"} - _columns(reset, task, seed=0).keys()):
            raise ValueError(
                f"tools.{self.name}: the row has no column {', '.join(missing)}, which reset takes "
                f"({place_of(reset)}); add it to the rows, or give the parameter a default"
            )

    @asynccontextmanager
    async def open(self, task: Task, seed: int) -> AsyncIterator[OpenTools]:
        """Make an instance for an episode."""
        given = {"task": task, "seed": seed}
        instance = await in_thread(self._class, **{each: given[each] for each in self._takes}, **self._options)
        try:
            said = await run(instance.reset, **_columns(instance.reset, task, seed)) if self.speaks else None
            reward = partial(run, instance.get_reward) if self.has_score else None
            yield OpenTools(tools=self._tools(instance, asyncio.Lock()), says=said or "", get_reward=reward)
        finally:
            if hasattr(instance, "close"):
                await run(instance.close)

    def _tools(self, instance: Any, lock: asyncio.Lock) -> Sequence[Tool]:
        def tool(name: str, description: str, parameters: Mapping[str, Any]) -> Tool:
            async def call(arguments: Mapping[str, Any]) -> Any:
                async with lock:
                    return await run(getattr(instance, name), **arguments)

            return Tool(name=name, description=description, parameters=parameters, call=call, timeout_s=self._timeout_s)

        return [tool(name, *schema) for name, schema in self._schemas.items()]


def _schemas(kind: type, names: Sequence[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return the schemas of methods.

    Raises:
        NoSchema: With the problems of all of them.
    """
    schemas: dict[str, tuple[str, dict[str, Any]]] = {}
    problems: list[str] = []
    for name in names:
        try:
            schemas[name] = schema_of(getattr(kind, name), name=name, hidden=())
        except NoSchema as error:
            problems += error.problems
    if problems:
        raise NoSchema(problems)
    return schemas


def _columns(reset: Callable[..., Any], task: Task, seed: int) -> dict[str, Any]:
    """Return the columns of a row that `reset` takes; all of them if it takes any name."""
    parameters = inspect.signature(reset).parameters
    row = {"task": task, "seed": seed, "prompt": [dict(each) for each in task.messages], **task.item}
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return {name: value for name, value in row.items() if name not in GIVEN or name in {*parameters, *task.item}}
    return {name: value for name, value in row.items() if name in parameters}


def _require_known(options: Mapping[str, Any], takes: set[str], name: str) -> None:
    if unknown := sorted(options.keys() - takes):
        raise ValueError(f"tools.{name}.options: it takes no {', '.join(unknown)}")
    if own := sorted(options.keys() & set(GIVEN)):
        raise ValueError(f"tools.{name}.options: rft passes {', '.join(own)} itself; rename the option")
