"""Importing pulls in nothing heavy: a wrong configuration is found in a second, and a grader is just a file."""

import json
import subprocess
import sys
from collections.abc import Sequence

from rft.commands import COMMANDS
from rft.imports import EXTRA_OF

NOT_IN_CORE = {*EXTRA_OF, "pyarrow", "scipy"}
"""Packages that the core does not install."""
HEAVY = {*NOT_IN_CORE, "transformers"}

PROGRAM = """
import importlib, json, sys
before = set(sys.modules)
for group in json.loads(sys.argv[1]):
    for name in group:
        importlib.import_module(name)
    loaded = {module.partition(".")[0] for module in set(sys.modules) - before}
    print(json.dumps(sorted(loaded - sys.stdlib_module_names)))
"""


def loaded_after(*groups: Sequence[str]) -> list[set[str]]:
    """Packages, without the standard library, that a fresh interpreter holds after importing each group of modules."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(groups)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [set(json.loads(line)) for line in done.stdout.splitlines()]


GRADERS = ("exact", "numeric", "pattern", "length", "reasoning_gym_score")
LIGHT_COMMANDS = (
    "train",
    "sweep",
    "pipeline",
    "continue_run",
    "check",
    "evaluate",
    "merge",
    "grade",
    "pairs",
    "audit",
    "feasibility",
    "serve_grader",
    "config",
    "completion",
)


LIGHT = (
    *("rft.config", "rft.config.commands", "rft.grading", "graders"),
    *(f"graders.{name}" for name in GRADERS),
    *(f"rft.commands.{name}" for name in LIGHT_COMMANDS),
    *("rft.loop", "rft.run.evaluation", "rft.data.splits", "rft.run_folder.recorder"),
    *("rft.terminal.final_report", "rft.run.forecast.plan", "rft.run.inputs.prepare"),
)
OF_THE_CORE = (
    *(f"rft.commands.{command.python_name}" for command in COMMANDS if command.name != "sample"),
    *("rft.api.audit", "rft.api.check", "rft.api.evaluate", "rft.api.grade", "rft.api.run", "rft.api.train"),
    *("rft.config.completion", "rft.config.help", "rft.doctor", "rft.run_folder.results"),
)


def test_importing_loads_what_is_needed_and_no_more() -> None:
    standard, opening, light, core, weights = loaded_after(
        ["rft", "rft.types", "rft.errors", "rft.waiting", "rft.cli"],
        ["rft.api.run"],
        LIGHT,
        OF_THE_CORE,
        ["rft.sampling.vllm_policies", "rft.sampling.vllm_worker"],
    )
    assert standard == {"rft"}, "nothing but the standard library"
    packages = {name for name in opening if "cython" not in name}  # what PyYAML is built with
    assert packages == {"rft", "yaml"}, "opening a run needs a reader of YAML"
    assert {"rft", "graders", "pydantic", "hydra"} <= light
    assert light & (HEAVY | {"uvicorn", "fastapi"}) == set()
    assert core & NOT_IN_CORE == set(), "the commands import nothing that an extra installs"
    assert (weights - core) & HEAVY == {"torch"}, "a sampler's weights need torch and no more"


def test_worker_processes_start_without_what_they_do_not_need() -> None:
    """Those of graders without an event loop, those of environments without the libraries of the configuration."""
    program = (
        "import sys, rft.grading.processes.worker_main; print('asyncio' in sys.modules); "
        "import rft.episodes.worker_main; print({'pydantic', 'hydra', 'jinja2', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nset()\n"
