"""The settings of tools."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from rft.config.fields import Positive, PositiveSeconds, Section
from rft.config.retrieval import Retrieval, RetrievalConfig
from rft.wording import expectation

PLACES = ("use", "mcp", "index", "documents", "store")
"""Keys that say where a tool comes from; an entry has one of them."""
NEEDS = {
    **dict.fromkeys(("allow", "shared", "env", "bearer_env", "start_timeout_s"), ("mcp",)),
    "options": ("use",),
    "top_k": ("index", "documents", "store"),
}
"""Keys that only have an effect beside one of these keys."""
OF_PROMPTS = (
    *("top_k", "query", "template", "relevant", "distractors", "left_out_share", "shuffle", "seed", "allow_empty"),
    *("max_faults", "timeout_s", "batch_queries", "cache_folder"),
)
"""Keys of a store without an effect on a tool that searches."""


class ToolConfig(Section):
    """A tool, or a source of several, that the policy may call. See docs/environments.md."""

    use: str | None = None
    """A function of yours, such as `my_tools.py:add`, a class whose public methods are tools, or a tool that comes with
    rft: `calculator`, `files`, `python` or `sql`."""
    mcp: str | None = None
    """An MCP server with tools, in place of `use`: a URL, or a command such as `python server.py`."""
    index: str | None = None
    """An index that `rft index build` made, which the policy may search, in place of `use`. See docs/retrieval.md."""
    documents: str | None = None
    """A file of documents, as for `retrieval.documents`, which the policy may search, in place of `use`."""
    store: dict[str, Any] | None = None
    """Another store that the policy may search: keys of `retrieval`, such as `{kind: mongodb, collection: posts}`."""
    top_k: Positive = 4
    """Passages that a search finds."""
    options: dict[str, Any] = {}
    """Further arguments of the function or class, by name, which the model does not see; or the options of the tool."""
    timeout_s: PositiveSeconds = 30.0
    """Seconds allowed for one call."""
    max_result_tokens: Positive = 1024
    """Longest result, in tokens; a longer one loses its middle."""
    allow: tuple[str, ...] | None = None
    """Tools of the MCP server that the policy may call; null allows all."""
    shared: bool = False
    """Whether all episodes of a process share one session with the MCP server; else each episode has its own."""
    env: tuple[str, ...] = ()
    """Environment variables that the command of the MCP server gets, by name; beside them it gets HOME, LOGNAME, PATH,
    SHELL, TERM and USER."""
    bearer_env: str | None = None
    """Environment variable with the token for the URL of the MCP server."""
    start_timeout_s: PositiveSeconds = 60.0
    """Seconds for the start of the MCP server."""

    def problems(self) -> list[str]:
        """Return what is wrong with an entry, as phrases that follow its key."""
        places = [name for name in PLACES if getattr(self, name) is not None]
        if not places:
            return [
                ": names no tool; set use=my_tools.py:function, or mcp to the URL or command of an MCP server, or "
                "index to a folder to search"
            ]
        if len(places) > 1:
            return [f": has both {' and '.join(places)}; keep one"]
        # Not `model_fields_set`: the configuration of a resumed run sets every key.
        fields = type(self).model_fields
        unused = [
            name for name in NEEDS if places[0] not in NEEDS[name] and getattr(self, name) != fields[name].default
        ]
        problems = [f".{name}: has no effect without {' or '.join(NEEDS[name])}; leave it out" for name in unused]
        return problems + self._store_problems()

    @property
    def searches(self) -> bool:
        """Whether the tool searches a store of passages."""
        return any(place is not None for place in (self.index, self.documents, self.store))

    def searched(self) -> RetrievalConfig:
        """Return the settings of the store that the policy searches.

        Raises:
            ValidationError: They are wrong.
        """
        local = {"kind": "local", "index": self.index, "documents": self.documents}
        settings = local if self.store is None else self.store
        config: RetrievalConfig = TypeAdapter(Retrieval).validate_python(settings)
        return config

    def _store_problems(self) -> list[str]:
        if self.store is None:
            return []
        try:
            config = self.searched()
        except ValidationError as error:
            return [
                f".store.{each['loc'][-1] if each['loc'] else 'kind'}: {_expected(each)}" for each in error.errors()
            ]
        fields = type(config).model_fields
        unused = [name for name in OF_PROMPTS if getattr(config, name) != fields[name].default]
        problems = [f".store.{name}: has no effect on a tool; leave it out" for name in unused]
        problems += [f".store: {problem}" for problem in config.problems()]
        return problems if config.is_on else [".store.kind=none: searches nothing; name a kind, or leave out the tool"]


def _expected(error: Any) -> str:
    return "is missing" if error["type"] == "missing" else expectation(error)


def _named(tools: dict[str, ToolConfig]) -> dict[str, ToolConfig]:
    """Refuse names that models cannot write."""
    for name in tools:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            raise PydanticCustomError("tool_name", f"should have names of letters, digits, _ and -, not {name!r}")
    return tools


Tools = Annotated[dict[str, ToolConfig], AfterValidator(_named)]
