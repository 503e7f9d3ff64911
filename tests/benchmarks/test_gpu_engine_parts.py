"""Every part about the engine, small and on the CPU, with one engine for most of them."""

from pathlib import Path
from typing import Any

import pytest
from gpu.bench import Bench
from gpu.machine_parts import models_of_shapes
from gpu.plans import ENGINE, part_named
from gpu.process import run_here
from gpu.report import Notes, Outcome

pytestmark = pytest.mark.e2e

OTHER_ENGINES = ["merged", "throughput_merged", "gap_bfloat16", "gap_float32_head"]
"""Parts whose engines serve otherwise."""
FIRST = ["seeds", "throughput_merged"]
"""Parts that need an engine as it has started."""


class SharedBench(Bench):
    """Starts each kind of engine once."""

    def __init__(self, work: Path) -> None:
        super().__init__(work, dry=True)
        self.engines: dict[tuple[str, str], Any] = {}

    def engine(self, shape: str, *, serve: Any = "adapter", **engine: Any) -> Any:
        overrides = engine.get("hf_overrides", {})
        kind = (serve, str(overrides))
        if kind not in self.engines:
            self.engines[kind] = super().engine(shape, serve=serve, max_num_seqs=16, hf_overrides=overrides)
        return self.engines[kind]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = SharedBench(tmp_path_factory.mktemp("gpu_check"))
    models_of_shapes(bench, Notes())
    return bench


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(part.name, marks=[pytest.mark.full] if part.name in OTHER_ENGINES else [])
        for part in sorted(ENGINE, key=lambda part: part.name not in FIRST)
        if part.name not in ("engine_models", "sleep")
    ],
)
def test_a_part_passes(bench: Bench, name: str) -> None:
    result = run_here(part_named(name), bench)
    assert (result.outcome, result.reason) == (Outcome.PASSED, ""), result
    assert result.checks and result.figures
    assert result.line().startswith(f'{{"part": "{name}", ')


def test_an_engine_on_a_cpu_does_not_sleep(bench: Bench) -> None:
    result = run_here(part_named("sleep"), bench)
    assert (result.outcome, result.reason) == (Outcome.NOT_RUN, "engines sleep on GPUs only")
