"""Nodes that lack something, or have it in another version."""

import ast
import platform
import subprocess
import sys
from importlib import metadata

import pytest

import rft
from rft.cluster.versions import libraries_of, version_problems, version_reader
from rft.config.learners.base import LearnerConfig
from rft.config.learners.fake import FakeLearnerConfig
from rft.config.learners.grpo import GrpoLearnerConfig
from rft.config.samplers.base import SamplerConfig
from rft.config.samplers.fake import FakeSamplerConfig
from rft.config.samplers.vllm import VllmSamplerConfig

HERE = {"python": "3.11.2", "rft": "0.1.0", "vllm": "0.32.0", "torch": "2.13.0"}


def test_what_is_read_here() -> None:
    found = version_reader(["numpy", "no_such_library"])()
    assert found["rft"] == rft.__version__
    assert found["numpy"] == metadata.version("numpy")
    assert found["no_such_library"] is None


def test_the_reader_runs_where_there_is_no_rft() -> None:
    from ray import cloudpickle

    program = (
        "import sys; sys.modules['rft'] = None\n"  # so that importing it fails
        "from ray import cloudpickle\n"
        "print(cloudpickle.loads(bytes.fromhex(sys.argv[1]))())"
    )
    travelling = cloudpickle.dumps(version_reader(["ray"])).hex()
    done = subprocess.run([sys.executable, "-c", program, travelling], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == {
        "python": platform.python_version(),
        "rft": None,
        "ray": metadata.version("ray"),
    }


@pytest.mark.parametrize(
    ("sampler", "learner", "expected"),
    [
        (VllmSamplerConfig(), None, ("vllm", "torch")),
        (FakeSamplerConfig(), FakeLearnerConfig(), ()),
        (None, GrpoLearnerConfig(), ("torch", "transformers", "peft", "trl")),
        (VllmSamplerConfig(), GrpoLearnerConfig(), ("vllm", "torch", "transformers", "peft", "trl")),
    ],
)
def test_what_a_node_needs(
    sampler: SamplerConfig | None, learner: LearnerConfig | None, expected: tuple[str, ...]
) -> None:
    assert libraries_of(sampler, learner) == expected


def test_the_same_has_no_problem() -> None:
    assert version_problems("a", HERE | {"torch": "2.13.0+cpu"}, HERE, ["vllm", "torch"]) == []


def test_what_nobody_needs_there_may_be_absent() -> None:
    assert version_problems("a", HERE | {"vllm": None}, HERE, ["torch"]) == []


def test_a_driver_without_vllm_takes_any() -> None:
    assert version_problems("a", HERE, HERE | {"vllm": None}, ["vllm"]) == []


def test_everything_that_is_wrong() -> None:
    there = {"rft": "0.0.9", "vllm": None, "torch": "2.12.0"}
    assert version_problems("gpu-1", there, HERE, ["vllm", "torch"]) == [
        "node gpu-1 has rft 0.0.9, the driver has 0.1.0; or let the run bring its own (cluster.ship_code=true)",
        "node gpu-1 has no vllm; install vllm 0.32.0 there, install the same lock on every node",
        "node gpu-1 has torch 2.12.0, the driver has 2.13.0; install the same lock on every node",
    ]
