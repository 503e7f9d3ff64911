"""Two ranks against one: the same gradients, weights and metrics. The two are real processes that add up with gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from rft.learning.rank_store import open_store
from rft.learning.ranks import Ranks, checksum
from tests.learning import rank_program

pytestmark = pytest.mark.e2e  # real libraries: too slow for a unit test

PROGRAM = Path(rank_program.__file__)
CASES = [
    *(pytest.param(case, marks=pytest.mark.full) for case in ("dapo", "by rows, held to the base", "one micro-batch")),
    *("bnpo", "all weights", "ppo", "dpo", "sft"),
    "resumed",  # dapo, whose ranks are saved and resumed after the first step
]


class Done:
    """What a learner or a rank left behind."""

    def __init__(self, path: Path) -> None:
        self.stderr = path.with_suffix(".err").read_text() if path.with_suffix(".err").exists() else ""
        self.tensors: dict[str, torch.Tensor] = safetensors.torch.load_file(path)
        self.told: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())


@pytest.fixture(scope="module")
def done(
    request: pytest.FixtureRequest, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Done]]:
    """`alone`, a learner in this process, and the ranks `0` and `1` of two; each takes the cases that are tested."""
    tested = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    cases = [case for case in rank_program.CASES if {"case": case} in tested]
    folder = tmp_path_factory.mktemp("ranks")
    store = open_store("127.0.0.1")
    address = f"127.0.0.1:{store.port}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[2])}
    ranks = ("0", "1")
    paths = {name: folder / f"{name}.safetensors" for name in ("alone", *ranks)}
    with ExitStack() as logs:
        started = {
            name: subprocess.Popen(
                [sys.executable, PROGRAM, tiny_model, name, "2", address, paths[name], *cases],
                env=environment,
                stderr=logs.enter_context(paths[name].with_suffix(".err").open("wb")),
            )
            for name in ranks
        }
    try:
        rank_program.main(str(tiny_model), "0", "1", address, str(paths["alone"]), *cases)
        assert {name: process.wait(timeout=600) for name, process in started.items()} == dict.fromkeys(ranks, 0)
    finally:
        for process in started.values():
            process.kill()
        for name in ranks:
            print(paths[name].with_suffix(".err").read_text())
    yield {name: Done(path) for name, path in paths.items()}


def test_the_learner_imports_trl_without_vllm(done: dict[str, Done]) -> None:
    """TRL warns of versions of vLLM that it does not know."""
    assert done["0"].told["vllm"] == []
    assert "vLLM" not in done["0"].stderr


def starting_with(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_take_the_steps_of_one(done: dict[str, Done], case: str, same_up_to_rounding: Any) -> None:
    for prefix in (f"{case} 1 gradient", f"{case} 2 gradient", f"{case} weight"):
        found, expected = (starting_with(prefix, done[name].tensors) for name in ("0", "alone"))
        same_up_to_rounding(found, expected)


@pytest.mark.parametrize("case", CASES)
def test_their_metrics_are_those_of_one(done: dict[str, Done], case: str) -> None:
    for step in (1, 2):
        found, expected = (done[name].told[f"{case} {step}"] for name in ("0", "alone"))
        assert set(found) == set(expected)
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert {"loss", "grad_norm", "entropy"} <= set(found)


@pytest.mark.parametrize("case", [*CASES, "dropout"])
def test_the_ranks_stay_equal_bit_for_bit(done: dict[str, Done], case: str) -> None:
    names = [name for name in done["0"].tensors if name.startswith(case)]
    for name in names:
        assert torch.equal(done["0"].tensors[name], done["1"].tensors[name]), name
    checksums = done["0"].told[f"{case} checksums"]
    assert checksums == done["1"].told[f"{case} checksums"]
    assert len(set(checksums)) == 3, "every step changes the weights"
    # What is drawn for all is drawn alike, dropout or not.
    assert f"{case} random state" in names


def test_one_bit_is_another_checksum() -> None:
    weights = [torch.randn(4, 3), torch.randn(5).bfloat16()]
    found = checksum(weights)
    assert checksum([each.clone() for each in weights]) == found
    swapped = [weights[0].clone(), weights[1].clone()]
    swapped[0].view(torch.int32)[2, 1] ^= 1
    assert checksum(swapped) != found
    assert checksum(weights[::-1]) != found


def test_a_process_that_is_alone_adds_nothing() -> None:
    alone, tensor = Ranks(), torch.ones(2)
    alone.add_up([tensor])
    assert tensor.tolist() == [1.0, 1.0]
    assert alone.collect({"loss": 1.5}) == [{"loss": 1.5}]
    assert alone.is_first
