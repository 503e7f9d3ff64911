"""Nothing that a grader starts outlives its worker, and no worker outlives the run."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ..conftest import make_task

SAFETY_S = 300.0

OFFSPRING = """
import os, signal, subprocess, sys, time

def brood(completion):
    for _ in range(8):
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
    if completion == "in vain":
        time.sleep(1000)
    return 1.0

def escaping(completion):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        time.sleep(1000)
    if completion == "exit":
        os._exit(0)
    return 1.0
"""


@pytest.mark.parametrize(
    ("use", "completion"), [("brood", "in vain"), ("brood", ""), ("escaping", "exit"), ("escaping", "")]
)
def test_what_a_grader_starts_ends_with_its_worker(bench, use, completion):
    bench.file(OFFSPRING)
    scores, _ = bench.grade({"g": bench.spec(use, timeout_s=0.5 if completion else SAFETY_S)}, [completion])
    assert scores["g"][0].value == (None if completion else 1.0)
    assert psutil.Process().children(recursive=True) == []
    here = [one for one in psutil.process_iter(["cwd"]) if one.info["cwd"] == str(bench.folder)]
    assert here == [psutil.Process()]


SLEEPER = """
import os, time

def sleeper(completion):
    if completion == "sleep" or (completion == "sleep once" and not os.path.exists("asleep")):
        open("asleep", "w").close()
        time.sleep(1000)
    return 0.5
"""

DRIVER = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from conftest import Bench, make_task
from pathlib import Path

async def main():
    bench = Bench(Path.cwd())
    panel = bench.panel({"g": bench.spec("sleeper")})
    await bench.graded(panel, make_task(), ["fine", "fine"])
    print("up", flush=True)
    await bench.graded(panel, make_task("b"), ["sleep", "sleep"])

asyncio.run(main())
"""


@pytest.mark.e2e  # real limits: too slow for a unit test
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_do_not_outlive_the_run(bench, number):
    bench.file(SLEEPER)
    bench.file(DRIVER, "driver.py")
    here = str(Path(__file__).parents[1])  # where conftest.py is
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, "driver.py", here], stdout=subprocess.PIPE, env=environment)
    assert driver.stdout.readline() == b"up\n"
    workers = psutil.Process(driver.pid).children(recursive=True)
    assert len(workers) == 3
    driver.send_signal(number)
    driver.wait(SAFETY_S)
    driver.stdout.close()
    assert psutil.wait_procs(workers, SAFETY_S)[1] == []


@pytest.mark.e2e  # real limits: too slow for a unit test
def test_the_process_that_forks_workers_is_replaced_as_well(bench):
    bench.file(SLEEPER)

    async def main():
        panel = bench.panel({"g": bench.spec("sleeper")})
        try:
            await bench.graded(panel, make_task(), ["fine"])
            (server,) = psutil.Process().children()
            grading = asyncio.create_task(bench.graded(panel, make_task("b"), ["sleep once"]))
            while not Path("asleep").exists():
                await asyncio.sleep(0.01)
            workers = server.children()
            server.kill()
            lost = (await asyncio.wait_for(grading, SAFETY_S))[0].rewards
            assert psutil.wait_procs(workers, SAFETY_S)[1] == []
            return lost, (await bench.graded(panel, make_task("c"), ["fine"]))[0].rewards
        finally:
            panel.close()

    lost, rewards = asyncio.run(main())
    assert (lost, rewards) == ([0.5], [0.5])  # the call under way was repeated
    assert psutil.Process().children(recursive=True) == []
