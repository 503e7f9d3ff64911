"""Records by the handful, and a tiny real model, for every test that wants one."""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from rft.cli import main
from rft.imports import prepare_bitsandbytes
from rft.types import Grade, GradedGroup, Policy, Rollout, Score, Split, Status, StopReason, Task
from tests.selection import pytest_ignore_collect, pytest_xdist_make_scheduler  # noqa: F401 - hooks

# OpenMP reads it once, when torch is imported: tests build engines and learners in this very process, from threads of
# their own, and vLLM does not stand it when those differ in their number of OpenMP threads.
os.environ["OMP_NUM_THREADS"] = "1"
# Ray starts its workers with a low priority of their own (15). Beside other tests they would hardly get a core.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - so Ray spells it
# PEFT would import it, and with it torch's compiler: two seconds in each test process.
prepare_bitsandbytes(is_used=False)
# These change the output of commands.
for name in ("COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR", "PYTHONWARNINGS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
    os.environ.pop(name, None)

TESTS = Path(__file__).parent
THEMES = sorted(folder.name for folder in TESTS.iterdir() if any(folder.rglob("test_*.py")) and folder.name != "e2e")
"""The folders of tests; each is a mark, so `pytest -m sweep` runs the tests of sweeps."""
_LONG = {"chaos": 0, "e2e": 1, "sweep": 2, "sampling": 3}
"""Folders whose end-to-end tests start Ray, in the order in which they run."""
EMBEDDED = Path(__file__).parents[1] / "rft" / "embedded" / "model"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its theme, and put the longest files first: a long file at the end would run alone."""
    for item, theme in [(item, theme) for item in items if (theme := _theme(item.path))]:
        item.add_marker(theme)
    items.sort(key=lambda item: _LONG.get(item.path.parent.name, len(_LONG)))


@functools.cache
def _theme(path: Path) -> str | None:
    """The folder of a test, or its file if a folder bears that name: `cluster` for `e2e/test_cluster.py`."""
    names = (path.relative_to(TESTS).parts[0], path.stem.removeprefix("test_"))
    return next((name for name in names if name in THEMES), None)


def pytest_configure(config: pytest.Config) -> None:
    """Register the themes as marks, and put off garbage collection.

    Imports create objects by the hundred thousand and hardly any garbage, so nothing is collected until they are done.
    """
    for theme in THEMES:
        config.addinivalue_line(
            "markers", f"{theme}: the tests in tests/{theme}/, and end-to-end tests of the same name"
        )
    gc.disable()
    # Python's end frees what was taken out; otherwise extension modules report it as leaked.
    atexit.register(gc.unfreeze)


def pytest_collection_finish() -> None:
    """Take what is imported by now out of garbage collection, which would look at all of it hundreds of times.

    Syntax trees and later imports stay, too, so collections are rare. Then let Hydra read its files once.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
    if "hydra" in sys.modules:
        from tests.hydra_files import read_once

        read_once()


def pytest_runtest_teardown() -> None:
    """Give torch one thread again. With two, the threads of two test processes would spin in each other's way."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def _task(task_id: str = "t", content: str = "1+1=", **item: Any) -> Task:
    return Task(id=task_id, messages=({"role": "user", "content": content},), item=item, split=Split.TRAIN)


def _rollout(task_id: str = "t", index: int = 0, **changes: Any) -> Rollout:
    values: dict[str, Any] = {
        "prompt_ids": (5, 6),
        "completion_ids": (7, 2),
        "logprobs": (-0.5, -0.25),
        "text": "a",
        "stop": StopReason.STOP,
        "policy": Policy(version=0, fingerprint="base"),
    }
    return Rollout(task_id=task_id, index=index, **(values | changes))


def _group(rewards: Sequence[float | None], task_id: str = "t", **of_rollouts: Any) -> GradedGroup:
    grades = [
        Grade(scores={"g": Score(value=reward, status=Status.SKIPPED if reward is None else Status.OK)}, reward=reward)
        for reward in rewards
    ]
    rollouts = tuple(_rollout(task_id, index, **of_rollouts) for index in range(len(rewards)))
    return GradedGroup(task=_task(task_id), rollouts=rollouts, grades=tuple(grades))


@pytest.fixture(scope="session")
def make_task() -> Callable[..., Task]:
    """`make_task("id", "prompt", column=...)`."""
    return _task


@pytest.fixture(scope="session")
def make_rollout() -> Callable[..., Rollout]:
    """`make_rollout("task id", 0, text="...")`."""
    return _rollout


@pytest.fixture(scope="session")
def make_group() -> Callable[..., GradedGroup]:
    """`make_group([1.0, None], "task id")`: grader `g` gave these rewards."""
    return _group


def _learner_spec(run_folder: Path, kind: str = "fake", **changes: Any) -> Any:
    from rft.config import RunConfig
    from rft.learning.spec import LearnerSpec

    loop = {"steps": 3, "prompts_per_step": 1, "completions_per_prompt": 2, "staleness": 0, "keep_checkpoints": 2}
    sampler = {"kind": "transformers", "max_completion_tokens": 8, "temperature": 1.0}
    facts = dict.fromkeys(("start", "resume_from")) | {
        "model": Path("nowhere"),
        "model_name": "some/model",
        "base": Policy(version=0, fingerprint="base"),
        "completions_per_micro_batch": 2,
        "gradient_checkpointing": False,
        "dtype": "float32",
        "on_gpu": False,
        "num_threads": 1,
        "canaries": (),
    }
    others = {"seed": 0, "chat_template": None, "start_mode": "continue", "quantized": None, "environment": {}}
    given = loop | sampler | facts | others | changes
    learner = {name: value for name, value in changes.items() if name not in {*loop, *sampler, *facts, *others}}
    run = RunConfig.model_validate(
        {
            "output_dir": str(run_folder),
            "seed": given["seed"],
            "start_mode": given["start_mode"],
            "model": {"chat_template": given["chat_template"]},
            "data": {},
            "graders": {},
            "environment": given["environment"],
            "loop": {name: given[name] for name in loop},
            "sampler": {name: given[name] for name in sampler},
            "learner": {"kind": kind, "step_timeout_s": 300.0, "base": given["quantized"], **learner},
        }
    )
    return LearnerSpec(run=run, run_folder=run_folder, **{name: given[name] for name in facts})


@pytest.fixture(scope="session")
def make_learner_spec() -> Callable[..., Any]:
    """`make_learner_spec(folder, "grpo", steps=4, adapter="full", canaries=...)`: keys of any section, and facts.

    `quantized` is `learner.base`; `base` is the policy of the base model.
    """
    return _learner_spec


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """Folder of the embedded model, which has a character tokenizer."""
    return EMBEDDED


def _write_reward_model(folder: Path, *, num_labels: int = 1, seed: int = 0) -> Path:
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForSequenceClassification, set_seed

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    set_seed(seed)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"num_hidden_layers": 2, "max_position_embeddings": 128}
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        num_labels=num_labels,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.5,
        **sizes,
    )
    for part in (tokenizer, Qwen2ForSequenceClassification(config)):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_reward_model() -> Callable[..., Path]:
    """`make_reward_model(folder, num_labels=1, seed=0)`: a random sequence classifier of 15,000 weights."""
    return _write_reward_model


@pytest.fixture(scope="session")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a reward model of random weights; nobody may change it."""
    return _write_reward_model(tmp_path_factory.mktemp("reward-model"))


@pytest.fixture(scope="session")
def make_peft_model(tiny_model: Path) -> Callable[..., Any]:
    """`make_peft_model(seed=1)`: the tiny model under a LoRA adapter that really changes it."""

    def make(*, seed: int, rank: int = 8, scale: float = 0.1) -> Any:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(base, config)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=scale)
        return model.eval()

    return make


@pytest.fixture(scope="module")
def visible_bitsandbytes() -> None:
    """Undo that a learner or an engine in this test process has hidden bitsandbytes from PEFT."""
    prepare_bitsandbytes(is_used=True)


class _Ray:
    """A Ray of four CPUs, which all tests of this process share."""

    def start(self) -> None:
        import ray

        from rft.cluster.own_ray import few_processes

        if not ray.is_initialized():
            with few_processes():
                ray.init(address="local", num_cpus=4, num_gpus=0, include_dashboard=False, log_to_driver=False)

    def stop(self) -> None:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[_Ray]:
    """What `running_ray` starts and `no_ray` ends; for fixtures of a wider scope than theirs."""
    shared = _Ray()
    yield shared
    shared.stop()


@pytest.fixture
def running_ray(shared_ray: _Ray) -> None:
    """This process is connected to a Ray of four CPUs; what needs one takes it, and leaves it as it is."""
    shared_ray.start()


@pytest.fixture
def no_ray(shared_ray: _Ray) -> None:
    """This process is connected to no Ray."""
    shared_ray.stop()


@pytest.fixture
def fake_ray() -> Iterator[None]:
    """Runs of this process have their samplers and learners in it."""
    from tests.fake_ray import without_ray

    with without_ray():
        yield


class _ModelServer:
    """An OpenAI-compatible server on loopback that replies by a script, and keeps what it was asked."""

    SILENCE = "silence"

    def __init__(self) -> None:
        import socket
        import threading

        import uvicorn
        from fastapi import FastAPI, Request
        from fastapi.responses import Response

        self.script: list[tuple[int, Any, dict[str, str]]] = []
        self.requests: list[tuple[str, dict[str, str], Any]] = []

        async def reply(request: Request) -> Response:
            self.requests.append((request.path_params["path"], dict(request.headers), await request.json()))
            status, body, headers = self.script.pop(0)
            if body is self.SILENCE:
                await request.receive()  # until the client gives up
            text = body if isinstance(body, str) else json.dumps(body)
            return Response(text, status_code=status, headers={"Content-Type": "application/json"} | headers)

        app = FastAPI()
        app.add_route("/v1/{path:path}", reply, methods=["POST"])
        listening = socket.create_server(("127.0.0.1", 0))  # requests queue up here until the server is there
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()

    def replies(self, status: int, body: Any, **headers: str) -> None:
        """Reply so, once."""
        self.script.append((status, body, headers))

    def says(self, content: Any, *, refusal: str | None = None) -> None:
        """Reply with a chat completion, once; what is not text or None is written as JSON."""
        text = content if content is None or isinstance(content, str) else json.dumps(content)
        message = {"role": "assistant", "content": text, "refusal": refusal}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        head = {"id": "c", "object": "chat.completion", "created": 0, "model": "judge"}
        self.replies(200, head | {"choices": [choice], "usage": usage})

    def embeds(self, *vectors: Any) -> None:
        """Reply with embeddings, once, the last one first."""
        data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
        usage = {"prompt_tokens": 2, "total_tokens": 2}
        self.replies(200, {"object": "list", "data": data[::-1], "model": "embedder", "usage": usage})

    def close(self) -> None:
        """End it."""
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="session")
def _model_server() -> Iterator[_ModelServer]:
    server = _ModelServer()
    yield server
    server.close()


@pytest.fixture
def model_server(_model_server: _ModelServer) -> _ModelServer:
    """A model behind a real server, which fails by a script."""
    _model_server.script.clear()
    _model_server.requests.clear()
    return _model_server


@pytest.fixture
def rft(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process and an empty folder; returns its exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["rft"])

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert isinstance(caught.value.code, int)
        return caught.value.code, *capsys.readouterr()

    return call
