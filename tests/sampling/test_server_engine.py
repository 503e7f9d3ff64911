"""The client of a vLLM server, against a stand-in that speaks vLLM's API over real HTTP."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from rft.config.samplers.server import ServerSamplerConfig
from rft.errors import SampleError, SyncError
from rft.sampling import engine as engine_module
from rft.sampling.engine import SamplingOptions, arrived, sample_all
from rft.sampling.server_engine import ServerEngine
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import Adapter, FullWeights, Policy, StopReason

BASE = Policy(version=0, fingerprint="base")
KEY = "sk-very-secret"
MODULE = "model.layers.0.self_attn.q_proj"
CANARIES = ((5, 6, 7), (8, 9, 5))
OPTIONS = SamplingOptions(temperature=0.5, max_completion_tokens=4, stop=("!",))
NEUTRAL = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class StandIn:
    """A vLLM server without a model: token k of a completion is `seed + k`, and every log-probability is -1 - the mean
    of the adapter's lora_B."""

    def __init__(self) -> None:
        self.reset()
        app = FastAPI()
        for path, reply in (
            ("/models", self.models),
            ("/completions", self.completions),
            ("/load_lora_adapter", self.load),
            ("/unload_lora_adapter", self.unload),
        ):
            app.add_route(f"/v1{path}", reply, methods=["GET" if path == "/models" else "POST"])
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.adapters: dict[str, float] = {}
        self.loaded: list[str] = []
        self.folders: list[Path] = []
        self.allows_updates = True
        self.max_model_len = 64
        self.is_raw = False
        self.cached_tokens: int | None = None
        self.changes: dict[str, Any] = {}
        self.at_once = self.most_at_once = 0
        self.released = threading.Event()
        self.released.set()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def models(self, request: Request) -> Response:
        if request.headers["authorization"] != f"Bearer {KEY}":
            return JSONResponse({"error": f"Unauthorized: {request.headers['authorization']}"}, 401)
        card = {"object": "model", "owned_by": "vllm", "max_model_len": self.max_model_len, "parent": None}
        adapters = [{"id": name, "parent": "org/served", "max_model_len": None} for name in self.adapters]
        return JSONResponse({"object": "list", "data": [*adapters, card | {"id": "org/served"}]})

    async def load(self, request: Request) -> Response:
        if not self.allows_updates:
            return JSONResponse({"detail": "Not Found"}, 404)
        body = await request.json()
        folder = Path(body["lora_path"])
        if not folder.is_dir():
            text = f"Loading lora {body['lora_name']} failed: No adapter found for {folder}"
            return JSONResponse({"error": {"message": text, "type": "NotFoundError", "code": 404}}, 404)
        assert json.loads((folder / "adapter_config.json").read_text())["r"] == 2
        tensors = safetensors.torch.load_file(folder / "adapter_model.safetensors")
        [b] = [tensor for name, tensor in tensors.items() if "lora_B" in name]
        self.adapters[body["lora_name"]] = float(b.mean())
        self.loaded.append(body["lora_name"])
        self.folders.append(folder)
        return Response(f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    async def unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        del self.adapters[name]
        return Response(f"Success: LoRA adapter '{name}' removed successfully.")

    async def completions(self, request: Request) -> Response:
        body = await request.json()
        if {"@", "/"} & set(body["cache_salt"]):
            return JSONResponse({"error": {"message": "Parameter 'cache_salt' must not contain '@', '/'"}}, 400)
        self.asked.append(body)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            while not self.released.is_set():
                if await request.is_disconnected():
                    return Response(status_code=499)
                await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        return JSONResponse(self.reply(body) | self.changes)

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        value = -1.0 - self.adapters.get(body["model"], 0.0)
        ids = [body.get("seed", 0) + k for k in range(body["max_tokens"])]
        logprobs = {"token_logprobs": [value] * len(ids), "top_logprobs": [{"token_id:1": value}] * len(ids)}
        if named := body.get("logprob_token_ids"):
            logprobs["top_logprobs"] = [{f"token_id:{named[0]}": value}]
        elif body["logprobs" if "logprobs" in body else "max_tokens"] == 2:  # the two likeliest, 3 apart
            scale = 1.0 if self.is_raw else body["temperature"]
            logprobs["top_logprobs"] = [{"a": -0.5 / scale, "b": -3.5 / scale}]
        choice: dict[str, Any] = {
            "index": 0,
            "text": "text",
            "finish_reason": "length",
            "token_ids": ids,
            "prompt_token_ids": body["prompt"],
            "logprobs": logprobs if "logprobs" in body else None,
        }
        if "prompt_logprobs" in body:
            rows = [{str(token): {"logprob": value, "rank": 1}} for token in body["prompt"][1:]]
            choice["prompt_logprobs"] = [None, *rows]
        details = None if self.cached_tokens is None else {"cached_tokens": self.cached_tokens}
        return {"model": body["model"], "choices": [choice], "usage": {"prompt_tokens_details": details}}


@pytest.fixture(scope="module")
def _server() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.close()


@pytest.fixture
def server(_server: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    _server.reset()
    monkeypatch.setenv("SERVER_KEY", KEY)
    return _server


def spec_of(server: StandIn, model: Path, folder: Path, *, staleness: int = 0, **settings: Any) -> EngineSpec:
    return EngineSpec(
        sampler=ServerSamplerConfig(
            url=server.url, api_key_env="SERVER_KEY", adapter_folder=str(folder), request_timeout_s=60, **settings
        ),
        base=BASE,
        dtype="float32",
        max_lora_rank=2,
        max_context_tokens=64,
        canaries=CANARIES,
        seed=0,
        staleness=staleness,
        place=EnginePlace(model=model, num_threads=1, num_gpus=0),
    )


@pytest.fixture
def engine(server: StandIn, tiny_model: Path, tmp_path: Path) -> ServerEngine:
    return ServerEngine(spec_of(server, tiny_model, tmp_path))


def adapter(version: int, shift: float, module: str = MODULE) -> Adapter:
    """An adapter of one module whose lora_B is `shift` everywhere."""
    tensors = {
        f"base_model.model.{module}.lora_A.weight": torch.zeros(2, 64),
        f"base_model.model.{module}.lora_B.weight": torch.full((64, 2), shift),
    }
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    made = Adapter(
        policy=Policy(version=version, fingerprint=""), config=config, tensors=safetensors.torch.save(tensors)
    )
    return Adapter(policy=arrived(made), config=config, tensors=made.tensors)


def request(index: int, seed: int = 20) -> engine_module.Request:
    return engine_module.Request(task_id="t", index=index, prompt_ids=(11, 12), seed=seed)


def test_token_ids_go_in_and_out(engine: ServerEngine, server: StandIn) -> None:
    [rollout] = sample_all(engine, [request(3)], OPTIONS)
    assert (rollout.task_id, rollout.index, rollout.prompt_ids) == ("t", 3, (11, 12))
    assert (rollout.completion_ids, rollout.logprobs) == ((20, 21, 22, 23), (-1.0,) * 4)
    assert (rollout.text, rollout.stop, rollout.policy) == ("text", StopReason.LENGTH, BASE)
    [asked] = server.asked
    assert asked.pop("stop_token_ids") == [2]  # the embedded model's end token
    assert re.fullmatch(r"rft-[0-9a-f]{8}-policy-v0-base", asked.pop("cache_salt"))
    assert asked == NEUTRAL | {
        "model": "org/served",
        "prompt": [11, 12],
        "seed": 20,
        "temperature": 0.5,
        "max_tokens": 4,
        "stop": ["!"],
        "logprobs": 0,
        "return_token_ids": True,
    }


def test_every_policy_has_a_name_and_a_folder_of_its_own(engine: ServerEngine, server: StandIn) -> None:
    first, second = adapter(1, 0.25), adapter(2, 0.5)
    loaded = engine.load(first)
    assert (loaded.policy, loaded.modules_matched, loaded.problems, loaded.is_remote) == (first.policy, 1, (), True)
    assert (server.folders[0] / "adapter_model.safetensors").read_bytes() == first.tensors
    assert engine.policies == (first.policy,)
    engine.load(second)
    engine.load(second)  # the same again, as after a resume: another name
    assert len(set(server.loaded)) == 3
    assert list(server.adapters) == server.loaded[2:]
    assert [folder.exists() for folder in server.folders] == [False, False, True]
    [rollout] = sample_all(engine, [request(0)], OPTIONS)
    assert (rollout.logprobs[0], rollout.policy) == (-1.5, second.policy)
    assert (server.asked[-1]["model"], server.asked[-1]["cache_salt"]) == (server.loaded[2], server.loaded[2])
    engine.forget(0)
    assert (server.adapters, engine.policies, server.folders[2].exists()) == ({}, (), False)


def test_older_policies_stay_while_they_are_needed(server: StandIn, tiny_model: Path, tmp_path: Path) -> None:
    engine = ServerEngine(spec_of(server, tiny_model, tmp_path, staleness=1))
    policies = [adapter(version, 0.1 * version) for version in range(1, 5)]
    for one in policies[:3]:
        engine.load(one)
    assert engine.policies == (policies[1].policy, policies[2].policy)
    server.released.clear()
    engine.add(7, [request(0)], OPTIONS, policies[1].policy)
    engine.load(policies[3])
    assert set(server.adapters) == set(server.loaded[1:]), "a request is under way"
    server.released.set()
    ended: list[Any] = []
    while engine.has_unfinished:
        ended += engine.step()
    assert [(stream, rollout.policy) for stream, rollout in ended] == [(7, policies[1].policy)]
    engine.load(adapter(5, 0.5))
    assert set(server.adapters) == set(server.loaded[3:])
    with pytest.raises(SyncError, match=r"asked for policy-v1-.* but holds policy-v4-"):
        engine.add(8, [request(0)], OPTIONS, policies[0].policy)


@pytest.mark.parametrize("cached_tokens", [None, 0, 32])
def test_scores_come_first_through_the_cache_and_then_anew(
    engine: ServerEngine, server: StandIn, cached_tokens: int | None
) -> None:
    engine.load(adapter(1, 0.25))
    server.cached_tokens = cached_tokens
    scores = engine.score(CANARIES)
    assert scores.logprobs == ((-1.25, -1.25), (-1.25, -1.25))
    assert (scores.last, scores.reused_tokens) == ((-1.25,), cached_tokens)
    probe, *anew = server.asked
    assert (probe["prompt"], probe["logprob_token_ids"], "prompt_logprobs" in probe) == ([5, 6], [7], False)
    assert sorted(asked["prompt"] for asked in anew) == [[5, 6, 7], [8, 9, 5]]
    assert {asked["prompt_logprobs"] for asked in anew} == {0}
    assert {(asked["model"], asked["temperature"]) for asked in server.asked} == {(server.loaded[0], 1.0)}


def test_modules_that_the_base_model_lacks(engine: ServerEngine) -> None:
    loaded = engine.load(adapter(1, 0.25, module="model.blocks.0.self_attn.q_proj"))
    assert loaded.modules_matched == 0
    assert "trained on this base model?" in loaded.problems[0]


def test_no_more_requests_at_once_than_allowed(server: StandIn, tiny_model: Path, tmp_path: Path) -> None:
    engine = ServerEngine(spec_of(server, tiny_model, tmp_path, max_concurrency=2))
    server.released.clear()
    engine.add(1, [request(index) for index in range(6)], OPTIONS, BASE)
    while server.at_once < 2:
        assert engine.step() == []
    server.released.set()
    rollouts = []
    while engine.has_unfinished:
        rollouts += [rollout for _, rollout in engine.step()]
    assert (sorted(one.index for one in rollouts), server.most_at_once) == (list(range(6)), 2)


def test_a_stream_that_is_given_up(engine: ServerEngine, server: StandIn) -> None:
    server.released.clear()
    engine.add(1, [request(0)], OPTIONS, BASE)
    engine.add(2, [request(1)], OPTIONS, BASE)
    while server.at_once < 2:
        assert engine.step() == []
    engine.abort(1)
    while server.at_once > 1:  # the connection closes, and the server ends the request
        engine.step()
    server.released.set()
    ended: list[Any] = []
    while engine.has_unfinished:
        ended += engine.step()
    assert [(stream, rollout.index) for stream, rollout in ended] == [(2, 1)]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"model": "another"}, "sampled another, not org/served"),
        ({"choices": [{"token_ids": [1], "prompt_token_ids": [11]}]}, "did not return the token ids of the prompt"),
        ({"choices": [{"prompt_token_ids": [11, 12]}]}, "of task t lacks token ids, log-probabilities or a reason"),
        ({"choices": []}, "no completion of org/served"),
    ],
)
def test_replies_that_rft_cannot_learn_from(
    engine: ServerEngine, server: StandIn, changes: dict[str, Any], problem: str
) -> None:
    server.changes = changes
    with pytest.raises(SampleError, match=problem):
        sample_all(engine, [request(0)], OPTIONS)
    assert not engine.has_unfinished


def test_a_server_that_loads_no_adapters_at_run_time(engine: ServerEngine, server: StandIn) -> None:
    server.allows_updates = False
    with pytest.raises(SyncError, match="start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"):
        engine.load(adapter(1, 0.25))
    assert engine.policies == (BASE,)


def test_a_folder_that_the_server_does_not_see(
    engine: ServerEngine, server: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = engine._client.load_adapter
    monkeypatch.setattr(engine._client, "load_adapter", lambda name, folder: real(name, Path("/of/another/machine")))
    with pytest.raises(SyncError, match=r"must see this folder under the same path \(sampler.adapter_folder\)"):
        engine.load(adapter(1, 0.25))


def test_whole_models_are_refused(engine: ServerEngine) -> None:
    with pytest.raises(SyncError, match="is a whole model, but a server serves adapters"):
        engine.load(FullWeights(policy=BASE, tensors=b""))


def test_a_wrong_key_is_not_shown(
    server: StandIn, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "sk-of-somebody-else")
    with pytest.raises(SampleError, match="Error code: 401") as caught:
        ServerEngine(spec_of(server, tiny_model, tmp_path))
    assert "sk-of-somebody-else" not in str(caught.value)
    monkeypatch.delenv("SERVER_KEY")
    with pytest.raises(SampleError, match=r"sampler.api_key_env=SERVER_KEY: the environment variable is not set"):
        ServerEngine(spec_of(server, tiny_model, tmp_path))


def test_a_context_that_is_too_short(server: StandIn, tiny_model: Path, tmp_path: Path) -> None:
    server.max_model_len = 63
    with pytest.raises(SampleError, match=r"takes 63 tokens .* needs 64: start the server with --max-model-len 64"):
        ServerEngine(spec_of(server, tiny_model, tmp_path))


def test_log_probabilities_of_another_temperature_are_refused(
    server: StandIn, tiny_model: Path, tmp_path: Path
) -> None:
    ServerEngine(spec_of(server, tiny_model, tmp_path, temperature=0.7))
    server.is_raw = True
    ServerEngine(spec_of(server, tiny_model, tmp_path, temperature=1.0))
    with pytest.raises(SampleError, match=r"sampler.temperature=0.7: .* --logprobs-mode processed_logprobs"):
        ServerEngine(spec_of(server, tiny_model, tmp_path, temperature=0.7))
