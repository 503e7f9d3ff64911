"""The client of an SGLang server, against a fake server whose replies follow SGLang's documentation."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from rft.config.samplers.sglang_server import SglangServerSamplerConfig
from rft.errors import SampleError, SyncError
from rft.sampling.engine import sample_all
from rft.sampling.server_engine import ServerEngine
from rft.sampling.spec import EnginePlace, EngineSpec
from rft.types import StopReason
from tests.sampling.test_server_engine import BASE, CANARIES, OPTIONS, adapter, request

KEY = "sk-very-secret"
NEUTRAL = {
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


class FakeSglang:
    """An SGLang server without a model: token k of a completion is `sampling_seed + k`, and every log-probability is
    -1 - the mean of the adapter's lora_B."""

    def __init__(self) -> None:
        self.reset()
        app = FastAPI()
        for path, reply in (
            ("/generate", self.generate),
            ("/load_lora_adapter", self.load),
            ("/unload_lora_adapter", self.unload),
        ):
            app.add_route(path, reply, methods=["POST"])
        app.add_route("/server_info", self.server_info, methods=["GET"])
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def reset(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.adapters: dict[str, float] = {}
        self.options: dict[str, Any] = {
            "model_path": "org/served",
            "enable_lora": True,
            "max_lora_rank": 16,
            "lora_target_modules": ["q_proj", "v_proj"],
            "enable_deterministic_inference": True,
            "context_length": 64,
        }
        self.is_raw = False
        self.cached_tokens = 0
        self.changes: dict[str, Any] = {}

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def server_info(self, request: Request) -> Response:
        if request.headers["authorization"] != f"Bearer {KEY}":
            return JSONResponse({"error": f"Unauthorized: {request.headers['authorization']}"}, 401)
        return JSONResponse(self.options | {"internal_states": [{}], "version": "0.5.9"})

    async def load(self, request: Request) -> Response:
        body = await request.json()
        folder = Path(body["lora_path"])
        if not folder.is_dir():
            problem = f"Failed to load LoRA adapter {body['lora_name']}: no such folder: {folder}"
            return JSONResponse({"success": False, "error_message": problem}, 400)
        assert json.loads((folder / "adapter_config.json").read_text())["r"] == 2
        tensors = safetensors.torch.load_file(folder / "adapter_model.safetensors")
        [b] = [tensor for name, tensor in tensors.items() if "lora_B" in name]
        self.adapters[body["lora_name"]] = float(b.mean())
        return JSONResponse({"success": True, "loaded_adapters": {body["lora_name"]: str(folder)}})

    async def unload(self, request: Request) -> Response:
        del self.adapters[(await request.json())["lora_name"]]
        return JSONResponse({"success": True, "loaded_adapters": {}})

    async def generate(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        name = body["lora_path"]
        if name is not None and name not in self.adapters:
            problem = f"The following requested LoRA adapters are not loaded: {name}"
            return JSONResponse({"error": {"message": problem}}, 400)
        value = -1.0 - self.adapters.get(name, 0.0)
        sampling = body["sampling_params"]
        ids = [sampling.get("sampling_seed", 0) + k for k in range(sampling["max_new_tokens"])]
        info: dict[str, Any] = {
            "id": "1",
            "finish_reason": {"type": "length", "length": len(ids)},
            "prompt_tokens": len(body["input_ids"]),
            "completion_tokens": len(ids),
            "cached_tokens": self.cached_tokens,
            "output_token_logprobs": [[value, token, None] for token in ids],
            "input_token_logprobs": [],
        }
        if body["logprob_start_len"] == 0:
            first, *others = body["input_ids"]
            info["input_token_logprobs"] = [[None, first, None], *([value, token, None] for token in others)]
        if named := body.get("token_ids_logprob"):
            info["output_token_ids_logprobs"] = [[[value, token, None] for token in named] for _ in ids]
        if body.get("top_logprobs_num") == 2:  # 3 apart
            scale = 1.0 if self.is_raw else sampling["temperature"]
            info["output_top_logprobs"] = [[[-0.5 / scale, 7, None], [-3.5 / scale, 8, None]]]
        changes = dict(self.changes)
        info |= changes.pop("meta_info", {})
        return JSONResponse({"text": "text", "output_ids": ids, "meta_info": info} | changes)


@pytest.fixture(scope="module")
def _server() -> Iterator[FakeSglang]:
    server = FakeSglang()
    yield server
    server.close()


@pytest.fixture
def server(_server: FakeSglang, monkeypatch: pytest.MonkeyPatch) -> FakeSglang:
    _server.reset()
    monkeypatch.setenv("SERVER_KEY", KEY)
    return _server


def spec_of(server: FakeSglang, model: Path, folder: Path, **settings: Any) -> EngineSpec:
    return EngineSpec(
        sampler=SglangServerSamplerConfig(
            url=server.url, api_key_env="SERVER_KEY", adapter_folder=str(folder), request_timeout_s=60, **settings
        ),
        base=BASE,
        dtype="float32",
        max_lora_rank=2,
        max_context_tokens=64,
        canaries=CANARIES,
        seed=0,
        staleness=0,
        place=EnginePlace(model=model, num_threads=1, num_gpus=0),
    )


@pytest.fixture
def engine(server: FakeSglang, tiny_model: Path, tmp_path: Path) -> ServerEngine:
    return ServerEngine(spec_of(server, tiny_model, tmp_path))


def test_token_ids_go_in_and_out(engine: ServerEngine, server: FakeSglang) -> None:
    [rollout] = sample_all(engine, [request(3)], OPTIONS)
    assert (rollout.task_id, rollout.index, rollout.prompt_ids) == ("t", 3, (11, 12))
    assert (rollout.completion_ids, rollout.logprobs) == ((20, 21, 22, 23), (-1.0,) * 4)
    assert (rollout.text, rollout.stop, rollout.policy) == ("text", StopReason.LENGTH, BASE)
    [asked] = server.asked
    assert re.fullmatch(r"rft-[0-9a-f]{8}-policy-v0-base", asked.pop("cache_salt"))
    assert asked.pop("sampling_params") == NEUTRAL | {
        "sampling_seed": 20,
        "temperature": 0.5,
        "max_new_tokens": 4,
        "stop": ["!"],
        "stop_token_ids": [2],  # the embedded model's end token
    }
    assert asked == {"input_ids": [11, 12], "return_logprob": True, "logprob_start_len": -1, "lora_path": None}


def test_each_policy_is_loaded_under_its_own_name(engine: ServerEngine, server: FakeSglang) -> None:
    first, second = adapter(1, 0.25), adapter(2, 0.5)
    loaded = engine.load(first)
    assert (loaded.policy, loaded.modules_matched, loaded.problems, loaded.is_remote) == (first.policy, 1, (), True)
    [name] = server.adapters
    engine.load(second)
    [newer] = server.adapters
    assert name != newer
    [rollout] = sample_all(engine, [request(0)], OPTIONS)
    assert (rollout.logprobs[0], rollout.policy) == (-1.5, second.policy)
    assert (server.asked[-1]["lora_path"], server.asked[-1]["cache_salt"]) == (newer, newer)
    engine.forget(0)
    assert server.adapters == {}


@pytest.mark.parametrize("cached_tokens", [0, 32])
def test_scores_come_first_through_the_cache_and_then_anew(
    engine: ServerEngine, server: FakeSglang, cached_tokens: int
) -> None:
    engine.load(adapter(1, 0.25))
    server.cached_tokens = cached_tokens
    scores = engine.score(CANARIES)
    assert scores.logprobs == ((-1.25, -1.25), (-1.25, -1.25))
    assert (scores.last, scores.reused_tokens) == ((-1.25,), cached_tokens)
    probe, *anew = server.asked
    assert (probe["input_ids"], probe["token_ids_logprob"], probe["logprob_start_len"]) == ([5, 6], [7], -1)
    assert sorted(asked["input_ids"] for asked in anew) == [[5, 6, 7], [8, 9, 5]]
    assert {asked["logprob_start_len"] for asked in anew} == {0}
    assert {asked["sampling_params"]["temperature"] for asked in server.asked} == {1.0}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"meta_info": {"prompt_tokens": 3}}, "read 3 tokens of a prompt of 2"),
        ({"output_ids": [20, 21, 22, 24]}, "output_token_logprobs and output_ids contain different tokens"),
        ({"meta_info": {"finish_reason": None}}, "of task t lacks token ids, log-probabilities or a reason"),
        ({"meta_info": {"output_token_logprobs": []}}, "of task t lacks token ids, log-probabilities or a reason"),
    ],
)
def test_replies_that_rft_cannot_learn_from(
    engine: ServerEngine, server: FakeSglang, changes: dict[str, Any], problem: str
) -> None:
    server.changes = changes
    with pytest.raises(SampleError, match=problem):
        sample_all(engine, [request(0)], OPTIONS)


@pytest.mark.parametrize("rows", [[], [[None, 5, None], [-1.0, 6, None], [-1.0, 6, None]]])
def test_canary_scores_of_other_tokens(engine: ServerEngine, server: FakeSglang, rows: list[Any]) -> None:
    server.changes = {"meta_info": {"input_token_logprobs": rows}}
    with pytest.raises(SampleError, match=r"no log-probabilities of a prompt \(input_token_logprobs\)"):
        engine.score(CANARIES[:1])


@pytest.mark.parametrize("rows", [None, [], [[]], [[["high", 7, None]]]])
def test_a_score_through_the_cache_in_another_format(engine: ServerEngine, server: FakeSglang, rows: Any) -> None:
    server.changes = {"meta_info": {"output_token_ids_logprobs": rows}}
    with pytest.raises(SampleError, match=r"no usable output_token_ids_logprobs; meta_info has the keys cached_"):
        engine.score(CANARIES[:1])


@pytest.mark.parametrize("rows", [None, [], [[[-0.5, 7, None]]]])
def test_most_likely_tokens_in_another_format(server: FakeSglang, tiny_model: Path, tmp_path: Path, rows: Any) -> None:
    server.changes = {"meta_info": {"output_top_logprobs": rows}}
    with pytest.raises(SampleError, match=r"no usable output_top_logprobs; meta_info has the keys cached_tokens, "):
        ServerEngine(spec_of(server, tiny_model, tmp_path, temperature=0.7))


def test_a_server_with_other_options_than_rft_needs(server: FakeSglang, tiny_model: Path, tmp_path: Path) -> None:
    server.options |= {
        "enable_lora": None,
        "max_lora_rank": 1,
        "lora_target_modules": None,
        "enable_deterministic_inference": False,
    }
    with pytest.raises(
        SampleError,
        match=r"start it with --enable-lora --max-lora-rank 2 --lora-target-modules all "
        r"--enable-deterministic-inference$",
    ):
        ServerEngine(spec_of(server, tiny_model, tmp_path))


def test_a_context_that_is_too_short(server: FakeSglang, tiny_model: Path, tmp_path: Path) -> None:
    server.options["context_length"] = 63
    with pytest.raises(SampleError, match=r"takes 63 tokens .* needs 64: start the server with --context-length 64"):
        ServerEngine(spec_of(server, tiny_model, tmp_path))


def test_an_address_with_v1(server: FakeSglang, tiny_model: Path, tmp_path: Path) -> None:
    server.url, url = f"{server.url}/v1", server.url
    try:
        with pytest.raises(SampleError, match=r"Error code: 404.*sampler.url is the address of SGLang's native API"):
            ServerEngine(spec_of(server, tiny_model, tmp_path))
    finally:
        server.url = url


def test_a_folder_that_the_server_does_not_see(engine: ServerEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine._client.load_adapter
    monkeypatch.setattr(engine._client, "load_adapter", lambda name, folder: real(name, Path("/of/another/machine")))
    with pytest.raises(SyncError, match=r"must see this folder under the same path \(sampler.adapter_folder\)"):
        engine.load(adapter(1, 0.25))
    assert engine.policies == (BASE,)


def test_log_probabilities_of_another_temperature_are_refused(
    server: FakeSglang, tiny_model: Path, tmp_path: Path
) -> None:
    ServerEngine(spec_of(server, tiny_model, tmp_path, temperature=0.7))
    server.is_raw = True
    with pytest.raises(SampleError, match=r"sampler.temperature=0.7: .* without SGLANG_RETURN_ORIGINAL_LOGPROB"):
        ServerEngine(spec_of(server, tiny_model, tmp_path, temperature=0.7))


def test_a_wrong_key_is_not_shown(
    server: FakeSglang, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVER_KEY", "sk-of-somebody-else")
    with pytest.raises(SampleError, match="Error code: 401") as caught:
        ServerEngine(spec_of(server, tiny_model, tmp_path))
    assert "sk-of-somebody-else" not in str(caught.value)
