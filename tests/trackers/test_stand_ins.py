"""Trackers that are not installed, against stand-ins with the interfaces that their documentation describes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rft.config.trackers import TRACKERS


class Calls(list[tuple[Any, ...]]):
    """The calls that a stand-in received."""

    def logged(self) -> list[tuple[int, dict[str, float]]]:
        """Steps and their numbers, without durations."""
        return [
            (step, {name: value for name, value in numbers.items() if not name.startswith("seconds/")})
            for kind, step, numbers in (call for call in self if call[0] == "log")
        ]


class Run:
    """A run of W&B or Trackio."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def log(self, data: dict[str, float], step: int | None = None) -> None:
        self._calls.append(("log", step, dict(data)))

    def finish(self, **options: Any) -> None:
        self._calls.append(("finish", options))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls that the stand-ins for wandb, trackio and mlflow receive."""
    calls = Calls()

    def module(name: str, **content: Any) -> None:
        stand_in = ModuleType(name)
        vars(stand_in).update(content)
        monkeypatch.setitem(sys.modules, name, stand_in)

    def init(**options: Any) -> Run:
        calls.append(("init", options))
        return Run(calls)

    module("wandb", init=init, Settings=lambda **options: options)
    module("trackio", init=init)
    module("mlflow", MlflowClient=lambda tracking_uri: Client(calls, tracking_uri))
    module(
        "mlflow.entities",
        Metric=lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step),
        Param=lambda key, value: (key, value),
    )
    for name in TRACKERS:
        monkeypatch.delitem(sys.modules, f"rft.trackers.{name}", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROJECT", raising=False)
    for variable in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(variable, raising=False)
    return calls


class Client:
    """MLflow's client, with an experiment that does not exist yet."""

    def __init__(self, calls: Calls, tracking_uri: str) -> None:
        self._calls = calls
        calls.append(("client", tracking_uri))

    def get_experiment_by_name(self, name: str) -> None:
        return None

    def create_experiment(self, name: str) -> str:
        self._calls.append(("experiment", name))
        return "7"

    def create_run(self, experiment_id: str, *, run_name: str) -> Any:
        self._calls.append(("run", experiment_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def update_run(self, run_id: str, status: str) -> None:
        self._calls.append(("update", run_id, status))

    def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
        if params:
            self._calls.append(("params", run_id, dict(params)))
        else:
            (step,) = {metric.step for metric in metrics}
            self._calls.append(("log", step, {metric.key: metric.value for metric in metrics}))

    def set_terminated(self, run_id: str, status: str) -> None:
        self._calls.append(("end", run_id, status))


AFTER = {"after/mean": 0.75, "after/low": 0.5, "after/high": 1.0}


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_run_of_wandb_or_trackio(name: str, calls: Calls, track: Callable[..., None], tmp_path: Path) -> None:
    track(name, [0.25, 0.5])
    (_, options), *_ = calls
    assert options["project"] == "rft"
    assert options["name"].startswith("quickstart-monday")
    assert options["resume"] == "allow"
    assert options["config"]["loop"] == {"steps": 4}
    assert calls.logged() == [(1, {"reward/mean": 0.25}), (2, {"reward/mean": 0.5}), (2, AFTER)]
    assert calls[-1][0] == "finish"
    if name == "wandb":
        assert options["dir"] == str(tmp_path / "monday")
        assert calls[-1][1] == {"exit_code": 0}


@pytest.mark.parametrize(("name", "key"), [("wandb", "id"), ("trackio", "name")])
def test_a_resumed_run_continues_its_series(
    name: str, key: str, calls: Calls, track: Callable[..., None], tmp_path: Path
) -> None:
    track(name, [0.125, 0.25, 0.5], status="interrupted")
    track(name, [0.5, 0.75], last_step=2)  # step 3 is repeated
    first, second = (options[key] for kind, options in (call for call in calls if call[0] == "init"))
    assert first == second
    assert [step for step, numbers in calls.logged() if "reward/mean" in numbers] == [1, 2, 3, 4]


def test_a_new_run_is_a_new_series(calls: Calls, track: Callable[..., None]) -> None:
    track("wandb", [0.5])
    track("wandb", [0.5])
    first, second = (options["id"] for kind, options in (call for call in calls if call[0] == "init"))
    assert first != second


def test_a_run_of_mlflow(calls: Calls, track: Callable[..., None], tmp_path: Path) -> None:
    track("mlflow", [0.25], status="failed")
    track("mlflow", [0.5], last_step=1)
    database = f"sqlite:///{tmp_path}/monday/mlflow.db"
    params = {
        "name": "quickstart",
        "loop.steps": "4",
        "graders.correct.use": "exact",
        "graders.correct.api_key": "<redacted>",
    }
    assert [call for call in calls if call[0] != "log"] == [
        ("client", database),
        ("experiment", "rft"),
        ("run", "7", "quickstart-monday"),
        ("params", "r1", params),
        ("end", "r1", "FAILED"),
        ("client", database),
        ("update", "r1", "RUNNING"),
        ("end", "r1", "FINISHED"),
    ]
    assert calls.logged() == [(1, {"reward/mean": 0.25}), (2, {"reward/mean": 0.5}), (2, AFTER)]


def test_mlflow_gets_the_characters_that_it_takes(calls: Calls) -> None:
    from rft.trackers.mlflow import _accepted

    assert _accepted("score/my grader (v2)+ü") == "score/my grader _v2___"


def test_servers_and_projects_come_from_the_environment(
    calls: Calls, track: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "sums")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    track("mlflow", [0.5])
    track("wandb", [0.5])
    assert [call for call in calls if call[0] in ("client", "experiment")] == [
        ("client", "http://mlflow:5000"),
        ("experiment", "sums"),
    ]
    assert next(options["project"] for kind, options in (call for call in calls if call[0] == "init")) == "mine"
