"""Which files pytest collects, and which of them share a test process."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
SHARED_STARTS = {
    "Ray": (
        "tests/cluster/test_stack_traces.py",
        "tests/run/test_grader_models.py",
        "tests/sampling/test_fleet.py",
        "tests/sampling/test_learner_ranks.py",
        "tests/sampling/test_lost_learner.py",
        "tests/sampling/test_sync.py",
    ),
    "vLLM": (
        "tests/benchmarks/test_gpu_engine_parts.py",
        "tests/sampling/test_engines.py",
        "tests/sampling/test_grouped_lora.py",
        "tests/sampling/test_in_place_weights.py",
        "tests/sampling/test_planted_faults.py",
    ),
}
"""Files whose tests use `shared_ray`, and files that build vLLM engines in the test process: each process that did so
would start its own Ray, or import vLLM, 10 s of a core."""

_GROUPS = {file: name for name, files in SHARED_STARTS.items() for file in files}


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return the scheduler of `--dist loadfile`, which takes the files of `SHARED_STARTS` as one."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class SharedStartScheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return _GROUPS.get(file, file)

    return SharedStartScheduling(config, log)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files without a wanted test, whose imports take seconds.

    These are files with end-to-end tests only under `-m "not e2e ..."`, files without any under `-m "e2e ..."`, and
    tests/smollm and tests/chromium, which need what `make test-smollm` and `make test-viewer` look for, unless `-m`
    names them.
    """
    wanted = config.option.markexpr
    if collection_path.parent == TESTS and collection_path.name in ("smollm", "chromium"):
        return collection_path.name not in wanted or None
    if wanted.startswith("e2e") and collection_path.is_dir():  # whose conftest.py would import much, too
        return not any("pytest.mark.e2e" in file.read_text("utf-8") for file in collection_path.rglob("*.py")) or None
    if collection_path.suffix != ".py" or not wanted.startswith(("not e2e", "e2e")):
        return None
    source = collection_path.read_text(encoding="utf-8")
    if wanted.startswith("not"):
        return ("pytestmark" in source and _is_e2e_as_a_whole(source)) or None
    return "pytest.mark.e2e" not in source or None


def _is_e2e_as_a_whole(source: str) -> bool:
    marks = [
        ast.unparse(statement.value)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "pytestmark"
    ]
    return any("pytest.mark.e2e" in mark for mark in marks)
