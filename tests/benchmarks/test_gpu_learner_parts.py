"""Every part about the learner, small and on the CPU."""

from pathlib import Path

import pytest
from gpu.bench import Bench
from gpu.plans import LEARNER, VARIANTS, part_named
from gpu.process import run_here
from gpu.report import Outcome

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("gpu_check"), dry=True)
    assert run_here(part_named("models"), bench).outcome is Outcome.PASSED
    return bench


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("environment", marks=pytest.mark.full),  # starts vLLM as `rft doctor` does
        *(part.name for part in LEARNER + VARIANTS if part.name not in ("models", "halving", "environment")),
    ],
)
def test_a_part_passes(bench: Bench, name: str) -> None:
    result = run_here(part_named(name), bench)
    assert (result.outcome, result.reason) == (Outcome.PASSED, ""), result
    assert result.checks and result.figures


def test_a_cpu_does_not_run_out_of_the_memory_of_a_gpu(bench: Bench) -> None:
    result = run_here(part_named("halving"), bench)
    assert (result.outcome, result.reason) == (Outcome.NOT_RUN, "torch raises OutOfMemoryError on GPUs only")


def test_a_part_without_its_model_is_not_run(tmp_path: Path) -> None:
    result = run_here(part_named("noise"), Bench(tmp_path, dry=True))
    assert (result.outcome, result.checks) == (Outcome.NOT_RUN, {})
    assert result.reason == f"the base model is missing: {tmp_path}/qwen-0.5B"
