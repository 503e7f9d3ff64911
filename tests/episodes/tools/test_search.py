"""Search as a tool: what the policy is told, what graders see of it, and faults of the store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rft.api.index import make_index
from rft.config.index import IndexBuildConfig
from rft.config.tools import ToolConfig
from rft.episodes.contract import LoadedEnvironment
from rft.episodes.tools.loading import load_tools
from rft.episodes.tools.search import NOTHING
from rft.episodes.tools.tool import ToolFault
from rft.errors import UsageError
from rft.retrieval.passages import Passage, Query
from rft.retrieval.stores.protocol import StoreFault
from rft.run.playing.tool_facts import refuse_changed_tools, tool_facts
from rft.turns import Author, Turn, passages_of, turn_from_json, turn_to_json
from tests.episodes.tools.test_conversation import CALL, World, result
from tests.episodes.tools.test_play import TASK, Script, play
from tests.grading.test_panel import grade, grader, rollout, stream

DOCUMENTS = [
    {"id": "p1", "text": "Water the orchid once a week.", "plant": "orchid"},
    {"id": "p2", "text": "The vanda likes light.", "plant": "vanda"},
    {"id": "p3", "text": "Repot the orchid in spring.", "plant": "orchid"},
]


def build(folder: Path, name: str, documents: Sequence[dict[str, str]]) -> str:
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(document) + "\n" for document in documents))
    make_index(IndexBuildConfig(documents=str(file), out=str(folder / name)))
    return str(folder / name)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(tmp_path_factory.mktemp("search"), "index", DOCUMENTS)


def searching(fingerprint: str = "", **entry: Any) -> LoadedEnvironment:
    entries = {"search": ToolConfig(**entry)}
    return load_tools(entries, max_invalid_calls=3, fingerprints={"search": fingerprint} if fingerprint else None)


def test_the_policy_is_told_the_text_and_graders_the_passages(index: str) -> None:
    script = Script([("search", {"query": "water orchid"})], [("search", {"query": " "})], [("search", {})])
    play(searching(index=index, top_k=2), script)
    assert script.results[0] == "[p1] Water the orchid once a week.\n[p3] Repot the orchid in spring."
    (message,) = script.heard[1]
    assert [passage["id"] for passage in message["passages"]] == ["p1", "p3"]
    assert message["passages"][0]["metadata"] == {"plant": "orchid"}
    assert script.results[1] == "error: the query is empty; write what to search for"
    assert script.results[2].startswith("error: wrong arguments for search: 'query' is a required property")


def test_a_row_hides_passages_and_filters_apply(index: str) -> None:
    store = {"kind": "local", "index": index, "search": "words", "exclude": "own", "filters": {"plant": "orchid"}}
    environment = searching(store=store)
    script = Script([("search", {"query": "water orchid"})], [("search", {"query": "vanda"})])
    task = replace(TASK, item={"own": ["p1"]})
    asyncio.run(environment.call(task=task, policy=script, seed=7))
    assert script.results == ["[p3] Repot the orchid in spring.", NOTHING]


class Scripted:
    """A store that fails as often as told."""

    def __init__(self, faults: int) -> None:
        self.left = faults

    async def fingerprint(self) -> str:
        return "9b2e51c07d44a1f0"

    async def search(self, queries: Sequence[Query], top_k: int) -> list[list[Passage]]:
        self.left -= 1
        if self.left >= 0:
            raise StoreFault("503: the index is being built")
        return [[Passage(id="p", text=query.text, score=1.0)] for query in queries]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("faults", [2, 3])
def test_a_fault_of_the_store_is_a_fault_of_the_environment(monkeypatch: pytest.MonkeyPatch, faults: int) -> None:
    monkeypatch.setattr("rft.retrieval.searching.FIRST_PAUSE_S", 0.0)
    monkeypatch.setattr("rft.episodes.tools.search.open_store", lambda config: Scripted(faults))
    environment = searching("9b2e51c07d44a1f0", store={"kind": "http", "url": "http://127.0.0.1:9"})
    script = Script([("search", {"query": "orchid"})])
    if faults == 2:  # two are repeated
        play(environment, script)
        assert script.results == ["[p] orchid"]
        return
    with pytest.raises(ToolFault, match=r"^tool search: 3 searches failed: 503: the index is being built$"):
        play(environment, script)


def test_a_store_that_has_changed(index: str, tmp_path: Path) -> None:
    begun = searching(index=index)
    run: Any = SimpleNamespace(tools={"search": ToolConfig(index=index)})
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps(tool_facts(run, begun)))
    refuse_changed_tools(run, searching(index=index), manifest)

    other = build(tmp_path, "other", DOCUMENTS[:2])
    with pytest.raises(UsageError, match=r"tools\.search: the store has changed since the run began \(fingerprint"):
        refuse_changed_tools(run, searching(index=other), manifest)
    with pytest.raises(ToolFault, match="the store has changed since the run began"):
        play(searching(begun.fingerprints["search"], index=other), Script())
    with pytest.raises(ValueError, match=r"tools\.search: .*missing holds no index"):
        searching(index=str(tmp_path / "missing"))
    with pytest.raises(ValueError, match=r"tools\.search: .*missing\.jsonl"):
        searching(documents=str(tmp_path / "missing.jsonl"))


def test_retrieved_tokens_are_outside_the_loss() -> None:
    world = World(f"{CALL}<|im_end|>", "2<|im_end|>", tools={"max_result_tokens": {"add": 40}})
    world.say()
    passages = [
        {"id": "p1", "text": "short", "metadata": {"secret": "m"}, "score": 1.0},
        {"id": "p2", "text": "b" * 99},
    ]
    world.say(result("c00000000", "[p1] short\n[p2] " + "b" * 99) | {"passages": passages})
    episode = world.rollout()
    policy, told, last = episode.turns
    assert not any(episode.trained[told.start : told.end])
    assert all(episode.trained[: policy.end]) and all(episode.trained[last.start :])
    text = world.tokenizer.decode(episode.completion_ids[told.start : told.end])
    assert "[p1] short" in text and "secret" not in text and "passages" not in text
    # A passage of which the policy has lost a part is none that it could cite.
    assert [passage["id"] for passage in passages_of(episode.turns)] == ["p1"]


def test_graders_see_what_was_found_and_so_does_grading_again() -> None:
    def told(*passages: dict[str, Any]) -> dict[str, Any]:
        return {"role": "tool", "name": "search", "content": "", "passages": list(passages)}

    first, second = {"id": "p1", "text": "a"}, {"id": "p2", "text": "b"}
    turns = (
        Turn(author=Author.POLICY, start=0, end=1),
        Turn(author=Author.ENVIRONMENT, start=1, end=2, messages=(told(first), told(second, first))),
        Turn(author=Author.POLICY, start=2, end=3),
    )
    again = tuple(turn_from_json(json.loads(json.dumps(turn_to_json(turn)))) for turn in turns)

    async def seen(task: Any, completion: str) -> float:
        return float([passage["id"] for passage in task.item["passages"]] == ["p1", "p2"])

    for recorded in (turns, again):
        episode = replace(rollout("a", 0), completion_ids=(1, 2, 3), logprobs=(0.0,) * 3, turns=recorded)
        (group,) = grade([grader(seen)], stream(episode))
        assert group.grades[0].reward == 1.0
        assert "passages" not in group.task.item, "the passages are those of one episode"
