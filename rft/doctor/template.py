"""Checks whether the chat template of a model carries episodes: several turns, and tools."""

from __future__ import annotations

from collections.abc import Iterator

from rft.data.continuation import Continuation, require_continuation
from rft.data.rendering import Renderer
from rft.data.tool_proofs import call_parser, require_results
from rft.doctor.finding import Finding
from rft.errors import UsageError
from rft.models.base_model import load_tokenizer, locate
from rft.sampling.stops import model_stops


def template_findings(path: str, chat_template: str | None) -> Iterator[Finding]:
    """Prove that messages, and results of tools, are appended to a sampled turn exactly.

    Args:
        path: The base model, like `model.path` of a run.
        chat_template: Like `model.chat_template`.
    """
    try:
        model = locate(path)
        tokenizer = load_tokenizer(model, chat_template)
    except UsageError as error:
        yield Finding(check="model", state="fail", found=_first(error), remedy="correct --model or --chat-template")
        return
    renderer = Renderer(tokenizer)
    continuation = Continuation(renderer, model_stops(model, tokenizer).ids)
    try:
        require_continuation(continuation)
        yield Finding(check="episodes", state="ok", found="a user's message is appended exactly, after any chat")
    except UsageError as error:
        yield Finding(check="episodes", state="warn", found=_first(error), remedy="needed by runs with an environment")
    try:
        parser = call_parser(renderer, tokenizer)
        number = "of one call and of several" if require_results(continuation, ()) else "of one call, not of several,"
        found = f"calls as {parser.form}; the results {number} are appended exactly"
        yield Finding(check="tools", state="ok", found=found)
    except UsageError as error:
        yield Finding(check="tools", state="warn", found=_first(error), remedy="needed by runs with tools")


def _first(error: UsageError) -> str:
    return error.problems[0]
