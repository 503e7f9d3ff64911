"""The checks that start something, on this machine."""

import pytest

from rft.doctor.trials import trial_findings

pytestmark = [pytest.mark.e2e, pytest.mark.full]


def test_ray_and_vllm_start_and_a_cluster_that_is_not_there_is_named(free_port: int) -> None:
    ray, vllm, cluster = trial_findings(f"127.0.0.1:{free_port}")
    assert (ray.state, vllm.state) == ("ok", "ok"), (ray, vllm)
    assert (cluster.state, cluster.found.startswith(f"no Ray head at 127.0.0.1:{free_port}: ")) == ("fail", True)
