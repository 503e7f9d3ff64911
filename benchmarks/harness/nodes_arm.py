"""Does one job with rft on a Ray cluster of this machine: `python -m harness.nodes_arm <specification> <outcome>`.

The arm's option `nodes` is the number of nodes, which share `CPUS` CPUs equally. The driver runs on the first node.
Other options are keys of rft's configuration.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from ray._private.authentication.authentication_token_setup import ensure_token_if_auth_enabled
from ray.cluster_utils import Cluster

from harness.arms import read_specification
from harness.rft_arm import read_run, words

CPUS = 3


def main() -> None:
    """Start the cluster, run `rft train` on it, then write the outcome from its run folder."""
    job, arm = read_specification(Path(sys.argv[1]))
    outcome = Path(sys.argv[2])
    run = outcome.parent / "run"
    keys = dict(arm.options)
    num_nodes = int(keys.pop("nodes"))
    ensure_token_if_auth_enabled()
    cluster = Cluster()
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        try:
            for number in range(num_nodes):
                of_head = {"temp_dir": folder, "include_dashboard": False} if number == 0 else {}
                cluster.add_node(num_cpus=CPUS // num_nodes, **of_head)
            where = [f"cluster.address={cluster.address}", f"cluster.node_folder={outcome.parent / 'node'}"]
            overrides = [*words(job, replace(arm, options=keys), run), "cluster=attach", *where]
            subprocess.run([sys.executable, "-m", "rft.cli", "train", *overrides], check=True)
        finally:
            cluster.shutdown()
    read_run(run, job, arm).write(outcome)


if __name__ == "__main__":
    main()
