"""Strikes a process of a run when the run reaches a moment. Runs in every Python process of the run.

The plan is a JSON file, named by RFT_FAULT_PLAN:

    {"state": "<folder>", "faults": [{"id": "a", "kind": "kill", "target": "learner", "moment": "learning", "step": 3}]}

A fault strikes once, in the first process that reaches its moment after step `step` is complete (from the start of the
run without `step`). Methods of the product mark the moments; this module wraps them when their modules are imported, so
the product has no hooks. `state` holds the complete steps and the faults that have struck.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import lies
import strikes

PLAN = "RFT_FAULT_PLAN"
DRIVER = "RFT_FAULT_DRIVER"
"""Process id of the driver, which is the first process that loads the plan."""

ENGINE = {"__init__": "starting", "step": "sampling", "load": "loading", "score": "proving"}
LEARNER = {"__init__": "starting", "learn": "learning", "publish": "publishing"}
MARKS: dict[str, tuple[str, str, dict[str, str]]] = {
    "rft.sampling.transformers_engine": ("TransformersEngine", "sampler", ENGINE),
    "rft.sampling.vllm_engine": ("VllmEngine", "sampler", ENGINE),
    "rft.sampling.fake_engine": ("FakeEngine", "sampler", ENGINE),
    "rft.learning.trl_learner": ("TrlLearner", "learner", LEARNER),
    "rft.learning.fake": ("FakeLearner", "learner", LEARNER),
    # Between the trainer's state and the mark of a complete checkpoint.
    "rft.learning.publication_record": ("PublicationRecord", "learner", {"save": "checkpointing"}),
    "rft.run.reporting.emitter": ("Emitter", "driver", {"emit": "event"}),
}
"""Module of each class whose methods mark moments: the class, its process, and the moment that begins with a method."""

Fault = dict[str, Any]


def install() -> None:
    """Prepare this process to reach moments."""
    os.environ.setdefault(DRIVER, str(os.getpid()))
    strikes.prepare_exit()
    sys.meta_path.insert(0, _Watch())


def plan() -> dict[str, Any]:
    """Return the plan."""
    content: dict[str, Any] = json.loads(Path(os.environ[PLAN]).read_text())
    return content


def state(name: str) -> Path:
    """Return a file of the plan's state."""
    return Path(plan()["state"]) / name


def reach(moment: str, process: str) -> Fault | None:
    """Strike if a fault is due. Return a fault of lying weights, which the caller commits.

    Args:
        moment: The moment.
        process: The process that reaches it: `sampler`, `learner`, `grader` or `driver`.
    """
    if PLAN not in os.environ:
        return None
    for fault in plan()["faults"]:
        if fault["moment"] != moment or not _marks(process, fault) or not _is_armed(fault) or not _claim(fault):
            continue
        if fault["kind"] == "lying weights":
            return fault
        strikes.strike(fault, driver=int(os.environ[DRIVER]))
    return None


def _marks(process: str, fault: Fault) -> bool:
    """Whether the process marks the fault's moment: samplers and learners both start."""
    if fault["moment"] != "starting":
        return True
    return process == ("learner" if fault["target"] in ("learner", "rank") else "sampler")


def _is_armed(fault: Fault) -> bool:
    return fault.get("step") is None or state(f"step-{fault['step']}").exists()


def _claim(fault: Fault) -> bool:
    """Whether this process is the first that reaches the fault's moment."""
    try:
        with state(f"struck-{fault['id']}").open("x") as file:
            json.dump({"pid": os.getpid(), "time": time.time()}, file)
    except FileExistsError:
        return False
    return True


def _wrapped(method: Callable[..., Any], moment: str, process: str) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(self: Any, *arguments: Any, **options: Any) -> Any:
        if moment == "event":
            return _emit(method, self, *arguments)
        current = "measuring" if moment == "sampling" and state("measuring").exists() else moment
        if reach(current, process) is not None:
            return lies.LIES[current](method, self, *arguments, **options)
        return method(self, *arguments, **options)

    return wrapper


def _emit(method: Callable[..., Any], emitter: Any, event: Any) -> None:
    """Pass an event on, and note what it says of the run's progress."""
    name = type(event).__name__
    if name == "PhaseStarted":
        if event.text.startswith("measuring"):
            state("measuring").touch()
        if event.text.startswith("closing"):
            reach("closing", "driver")
    if name == "Measured":
        state("measuring").unlink(missing_ok=True)
    method(emitter, event)
    if name == "StepFinished":
        state(f"step-{event.report.step}").touch()
    if name == "PartsStarted":
        reach("idle", "driver")


class _Watch(importlib.abc.MetaPathFinder):
    """Wraps the methods of `MARKS` after the import of their modules."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> Any:
        """Part of importlib.abc.MetaPathFinder."""
        if name not in MARKS:
            return None
        for finder in sys.meta_path:
            if finder is not self and (spec := finder.find_spec(name, path, target)) is not None:
                loader: Any = spec.loader
                spec.loader = _Loader(loader)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """A loader that wraps the methods of the loaded module."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        """Part of importlib.abc.Loader."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Part of importlib.abc.Loader."""
        self._loader.exec_module(module)
        class_name, process, methods = MARKS[module.__name__]
        marked = getattr(module, class_name)
        for method, moment in methods.items():
            setattr(marked, method, _wrapped(getattr(marked, method), moment, process))
