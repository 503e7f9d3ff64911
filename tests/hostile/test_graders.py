"""Grader files and grader entries of strangers, and bodies of requests to the grader service."""

from __future__ import annotations

import asyncio
import atexit
import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("hypothesis")
import httpx
from hypothesis import example, given
from hypothesis import strategies as st

from rft.errors import ConfigError
from rft.grading import grader_problems, load_grader
from rft.grading.foreign.openai_spec import SpecError, run
from rft.grading.outbound.service import ServiceLimits, create_app

from .harness import LONG, as_json, cases, damaged, harmless, mutated, texts, values

CHECK = {
    "type": "string_check",
    "name": "a",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "operation": "eq",
}
SIMILARITY = {
    "type": "text_similarity",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "fuzzy_match",
    "pass_threshold": 0.5,
}
MULTI = {"type": "multi", "graders": {"a": CHECK, "b": SIMILARITY}, "calculate_output": "a * 0.5 + max(b, 0.25) ** 2"}
SPECS: list[Any] = [CHECK, SIMILARITY, MULTI]
SPEC_KEYS = [
    "type",
    "name",
    "input",
    "reference",
    "operation",
    "graders",
    "calculate_output",
    "evaluation_metric",
    "range",
]
FORMULAS = [
    "10 ** 10 ** 10",
    "a" * 500,
    "(" * 400 + "a" + ")" * 400,
    "a.__class__",
    "__import__('os')",
    "a / 0",
    "a if b else c",
]

ENTRIES: list[Any] = [
    {"use": "exact", "column": "answer"},
    {"use": "numeric", "tolerance": 0.01, "pattern": "#### (.+)", "weight": 0.5},
    {"use": "pattern", "pattern": "a+", "range": [0, 1], "clip": True},
    {"use": "json_schema", "schema": {"type": "object"}},
    {"use": "composite", "of": {"a": {"use": "exact"}, "b": {"use": "length", "free_tokens": 1, "max_tokens": 2}}},
    {"use": "judge", "base_url": "http://localhost:1/v1", "model": "m", "rubric": {"brief": "One sentence."}},
    {"use": "endpoint", "url": "http://localhost:1/", "shape": "rft", "attempts": 2},
    {"openai": MULTI},
]
ENTRY_KEYS = [
    "use",
    "openai",
    "weight",
    "timeout_s",
    "retries",
    "range",
    "clip",
    "cache",
    "column",
    "pattern",
    "of",
    "url",
    "style",
]

BODIES: list[Any] = [
    {"prompt": "?", "completion": "4", "item": {"answer": "4"}},
    {"messages": [{"role": "user", "content": "?"}], "completions": ["4", "5"], "item": {}},
    [{"prompt": "?", "completion": "4"}, {"prompt": "?", "completions": ["4"]}],
]
BODY_KEYS = ["prompt", "messages", "completion", "completions", "item", "answer", "role", "content"]


@cases(15, in_fuzz=900)
@given(
    spec=mutated(SPECS, SPEC_KEYS),
    formula=st.none() | st.sampled_from(FORMULAS) | texts(),
    text=texts(),
    item=mutated([{"answer": "4"}]),
)
def test_openai_graders(spec: Any, formula: str | None, text: str, item: Any) -> None:
    if formula is not None and isinstance(spec, dict) and spec.get("type") == "multi":
        spec["calculate_output"] = formula
    try:
        with harmless():
            result = run({"grader": spec, "model_sample": text, "item": item})
            assert result["reward"] is None or math.isfinite(result["reward"])
    except SpecError as error:
        assert error.problems and all(problem.startswith("$") for problem in error.problems)


@cases(15, in_fuzz=900)
@example(entry={"use": f"{LONG}.py:grade"})
@given(entry=mutated(ENTRIES, ENTRY_KEYS) | values(ENTRY_KEYS))
def test_entries_of_graders(entry: Any) -> None:
    with harmless():
        problems = grader_problems("g", entry)
        assert all(isinstance(problem, str) and problem.startswith("graders.g") for problem in problems)
        if not problems:
            load_grader("g", entry)
        else:
            with pytest.raises(ConfigError):
                load_grader("g", entry)


@cache
def service() -> tuple[asyncio.Runner, httpx.AsyncClient]:
    """The grader service in this thread, where `harmless` watches it."""
    runner = asyncio.Runner()
    atexit.register(runner.close)
    grader = load_grader("g", {"use": f"{Path(__file__).with_name('exact_grader.py')}:grade"})
    app = create_app([grader], limits=ServiceLimits(max_completions=5))

    async def start() -> httpx.AsyncClient:
        await app.router.lifespan_context(app).__aenter__()
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost")

    return runner, runner.run(start())


@cases(20, in_fuzz=900)
@given(body=mutated(BODIES, BODY_KEYS).map(as_json) | damaged([as_json(body) for body in BODIES]))
def test_bodies_of_requests(body: bytes) -> None:
    runner, client = service()
    with harmless():
        response = runner.run(client.post("/grade", content=body))
    assert response.status_code in (200, 400, 413, 422)
    assert response.status_code == 200 or response.json()["detail"]
