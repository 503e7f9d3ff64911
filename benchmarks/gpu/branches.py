"""The parts of the plans that run each place in rft that behaves differently on a GPU, or why no part does.

A key is a folder (`rft/memory/`), a file, or a function of a file; `find_branches` finds the places.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

WORDS = re.compile(
    r"(?<![a-z])(cuda|nccl|num_gpus|on_gpu|is_gpu|bfloat16|float16|bf16|fp16|nvidia|flashinfer)(?![a-z])", re.IGNORECASE
)
"""Matches names, and strings without spaces, that refer to GPUs."""

DECLARES = "declares a value that other places read"
PLANS_RUNS = "computes with numbers of GPUs; unit tests cover it, and every part of the cluster plan uses it"
FORECASTS = "computes with sizes; the parts step_0_5b and step_1_5b compare the results with the measured peak"
READS_NAMES = "reads the names of number formats; computes on the CPU"

RUN_BY: Mapping[str, tuple[str, ...]] = {
    "rft/cluster/free_memory.py": ("run_shared",),
    "rft/cluster/nodes.py": ("run_shared",),
    "rft/cluster/session.py": ("run_shared",),
    "rft/cluster/workplace.py:_placed": ("run_shared",),
    "rft/doctor/": ("environment",),
    "graders/reward_model.py": ("reward_model",),
    "rft/grading/models/": ("reward_model",),
    "rft/grading/processes/fork_server.py": ("run_shared",),
    "rft/learning/build.py": ("step_0_5b", "run_shared"),
    "rft/learning/float32_head.py": ("gap_float32_head", "noise"),
    "rft/learning/process_groups.py": ("nccl", "lost_rank", "two_ranks"),
    "rft/learning/ranks.py:Ranks.own_randomness": ("two_ranks",),
    "rft/learning/trl_learner.py:_load_model": ("run_shared",),
    "rft/learning/trl_learner.py:TrlLearner._precision": ("full_weights", "run_all_weights"),
    "rft/learning/trl_learner.py:TrlLearner.__init__": ("run_shared",),
    "rft/learning/trl_learner.py:TrlLearner.release_memory": ("run_asleep",),
    "rft/learning/trl_learner.py:precision_options": ("step_0_5b", "ppo_step", "float16"),
    "rft/learning/trl_trainer.py:LeanTrainer._repeat_step": ("halving",),
    "rft/learning/trl_trainer.py:LeanTrainer.log": ("float16",),
    "rft/run/build.py": ("run_shared", "two_ranks"),
    "rft/run/local_engine.py": ("command_sample",),
    "rft/run/start_facts.py": ("run_shared",),
    "rft/sampling/build.py": ("read_back", "run_shared"),
    "rft/sampling/gpu_memory.py": ("cache_beside", "run_shared"),
    "rft/sampling/transformers_engine.py": ("transformers",),
    "rft/sampling/vllm_engine.py": ("read_back", "merged"),
    "rft/sampling/vllm_settings.py": ("read_back", "graphs"),
}
"""The parts that run a place on a GPU."""
NOT_RUN: Mapping[str, str] = {
    "rft/cluster/__init__.py": DECLARES,
    "rft/cluster/node_agent.py": "only a cluster with other machines uses it",
    "rft/cluster/placement.py": PLANS_RUNS,
    "rft/cluster/preparation.py": "only a cluster with other machines uses it",
    "rft/cluster/shares.py": PLANS_RUNS,
    "rft/config/": DECLARES,
    "rft/learning/packing.py": "not tried yet; its tests run on a CPU",
    "rft/learning/quantized_base.py": "not tried yet; its tests run on a CPU, also in bfloat16",
    "rft/learning/spec.py": DECLARES,
    "rft/memory/": FORECASTS,
    "rft/run/check.py": FORECASTS,
    "rft/run/forecast/memory.py": FORECASTS,
    "rft/run/grader_models.py": PLANS_RUNS,
    "rft/run/base_models/merge.py": READS_NAMES,
    "rft/models/adapter_tensors.py": READS_NAMES,
    "rft/models/gguf_file.py": READS_NAMES,
    "rft/run/teachers/read_teachers.py:Teacher.sampler": PLANS_RUNS,
    "rft/run/teachers/engines.py": PLANS_RUNS,
    "rft/run/teachers/memory.py": FORECASTS,
    "rft/sampling/full_weights.py": READS_NAMES,
    "rft/sampling/proof.py": DECLARES,
    "rft/sampling/spec.py": DECLARES,
    "rft/sweep/capacity.py": PLANS_RUNS,
}
"""Why no part runs a place on a GPU."""


def find_branches(root: Path) -> list[str]:
    """Return the places of a source tree that refer to GPUs, such as `rft/learning/trl_learner.py:precision_options`.

    Names, attributes, arguments and strings count; documentation and messages do not.
    """
    branches: dict[str, None] = {}
    for folder in ("rft", "graders", "hydra_plugins"):
        for file in sorted((root / folder).rglob("*.py")):
            name = file.relative_to(root).as_posix()
            text = file.read_text(encoding="utf-8")
            # Most files hold none of the words, and parsing takes most of the time.
            for place in _places(ast.parse(text), "") if WORDS.search(text) else ():
                branches[f"{name}:{place}" if place else name] = None
    return list(branches)


def covers(key: str, place: str) -> bool:
    """Whether a key of the lists covers a place."""
    return place == key or place.startswith(f"{key}:") or (key.endswith("/") and place.startswith(key))


def _places(node: ast.AST, within: str) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        is_documentation = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
        if is_documentation or isinstance(child, ast.Import | ast.ImportFrom):
            continue
        place = within
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            place = f"{within}.{child.name}" if within else child.name
        if any(map(WORDS.search, _words(child))):
            yield place
        yield from _places(child, place)


def _words(node: ast.AST) -> list[str]:
    """Return the names and the strings without spaces of one node, without those of its children."""
    match node:
        case ast.Name(id=word) | ast.Attribute(attr=word) | ast.arg(arg=word) | ast.keyword(arg=str(word)):
            return [word]
        case ast.FunctionDef(name=word) | ast.AsyncFunctionDef(name=word):
            return [word]
        case ast.Constant(value=str(word)) if not re.search(r"\s", word):
            return [word]
        case _:
            return []
