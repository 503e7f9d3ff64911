"""Importing pulls in nothing heavy: a wrong configuration is found in a second, and a grader is just a file."""

import json
import subprocess
import sys

from rft.commands import COMMANDS
from rft.imports import EXTRA_OF

NOT_IN_CORE = {*EXTRA_OF, "pyarrow", "scipy"}
"""Packages that the core does not install."""
HEAVY = {*NOT_IN_CORE, "transformers"}

PROGRAM = """
import importlib, json, sys
before = set(sys.modules)
for name in sys.argv[1:]:
    importlib.import_module(name)
loaded = {module.partition(".")[0] for module in set(sys.modules) - before}
print(json.dumps(sorted(loaded - sys.stdlib_module_names)))
"""


def loaded_by(*modules: str) -> set[str]:
    """Packages, the standard library's left out, that importing these modules loads into a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *modules], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_nothing_but_the_standard_library() -> None:
    assert loaded_by("rft", "rft.types", "rft.errors", "rft.waiting", "rft.cli") == {"rft"}


def test_opening_a_run_needs_a_reader_of_yaml() -> None:
    packages = {name for name in loaded_by("rft.api.run") if "cython" not in name}  # what PyYAML is built with
    assert packages == {"rft", "yaml"}


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
    "serve_grader",
    "config",
    "completion",
)


def test_the_configuration_the_graders_the_commands_and_the_loop_are_light() -> None:
    loaded = loaded_by(
        *("rft.config", "rft.config.commands", "rft.grading", "graders"),
        *(f"graders.{name}" for name in GRADERS),
        *(f"rft.commands.{name}" for name in LIGHT_COMMANDS),
        *("rft.loop", "rft.run.evaluation", "rft.data.splits", "rft.run_folder.recorder"),
        *("rft.terminal.final_report", "rft.run.forecast.plan", "rft.run.inputs.prepare"),
    )
    assert {"rft", "graders", "pydantic", "hydra"} <= loaded
    assert loaded & (HEAVY | {"uvicorn", "fastapi"}) == set()


def test_the_commands_import_nothing_that_an_extra_installs() -> None:
    commands = [f"rft.commands.{command.python_name}" for command in COMMANDS if command.name != "sample"]
    functions = ["rft.api.audit", "rft.api.check", "rft.api.evaluate", "rft.api.grade", "rft.api.run", "rft.api.train"]
    others = ["rft.config.completion", "rft.config.help", "rft.doctor", "rft.run_folder.results"]
    assert loaded_by(*commands, *functions, *others) & NOT_IN_CORE == set()


def test_worker_processes_start_without_what_they_do_not_need() -> None:
    """Those of graders without an event loop, those of environments without the libraries of the configuration."""
    program = (
        "import sys, rft.grading.processes.worker_main; print('asyncio' in sys.modules); "
        "import rft.episodes.worker_main; print({'pydantic', 'hydra', 'jinja2', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nset()\n"


def test_a_samplers_weights_need_torch_and_no_more() -> None:
    assert loaded_by("rft.sampling.vllm_policies", "rft.sampling.vllm_worker") & HEAVY == {"torch"}
