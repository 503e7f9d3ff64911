"""Every part with Ray, and TRL side by side, small and on the CPU."""

import pytest
from gpu.bench import Bench
from gpu.machine_parts import models_of_shapes
from gpu.plans import CLUSTER, part_named
from gpu.process import run_here
from gpu.report import Notes, Outcome

pytestmark = pytest.mark.e2e

COSTLY = [part.name for part in CLUSTER if part.target.endswith((":run", ":beside_trl", ":sample", ":lost_rank"))]
"""Parts that start Ray, each its own, or vLLM, or ranks: 10 to 20 s for each. Without GPUs, other tests show the same:
tests/e2e/test_train.py a run, and tests/sampling/test_learner_ranks.py a lost rank."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("gpu_check"), dry=True)
    models_of_shapes(bench, Notes())
    return bench


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(part.name, marks=[pytest.mark.full] if part.name in COSTLY else [])
        for part in CLUSTER
        if part.name != "run_asleep"
    ],
)
def test_a_part_passes(bench: Bench, name: str) -> None:
    result = run_here(part_named(name), bench)
    assert (result.outcome, result.reason) == (Outcome.PASSED, ""), result
    assert result.checks and result.figures


def test_samplers_on_a_cpu_do_not_sleep(bench: Bench) -> None:
    result = run_here(part_named("run_asleep"), bench)
    assert (result.outcome, result.reason) == (Outcome.NOT_RUN, "sampler.sleep=true needs a GPU")
