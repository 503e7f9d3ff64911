"""A sampler ends with its vLLM engine."""

import subprocess
import sys

KILL_ONE_OF_TWO = """
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace


def live_as_long_as_the_parent():
    multiprocessing.parent_process().join()


if __name__ == "__main__":  # the workers import this file, too
    from rft.sampling.worker_deaths import exit_with_workers

    context = multiprocessing.get_context("spawn")
    workers = [SimpleNamespace(proc=context.Process(target=live_as_long_as_the_parent)) for _ in range(2)]
    for worker in workers:
        worker.proc.start()
    exit_with_workers(workers)
    os.kill(workers[1].proc.pid, signal.SIGKILL)
    time.sleep(600)
"""


def test_a_sampler_ends_with_a_worker_of_its_engine(tmp_path):
    script = tmp_path / "kill_one_of_two.py"
    script.write_text(KILL_ONE_OF_TWO)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "rft: a worker process of vLLM died, so this sampler ends\n")
