"""The commands with a configuration, and the schema of each."""

from __future__ import annotations

from collections.abc import Mapping

from rft.config.fields import Section
from rft.config.pairs import PairsConfig
from rft.config.pipeline_config import PipelineConfig
from rft.config.schema import (
    AuditConfig,
    EvaluateConfig,
    GradeConfig,
    MergeConfig,
    RunConfig,
    ServeConfig,
    SweepConfig,
)

SCHEMAS: Mapping[str, type[Section]] = {
    "train": RunConfig,
    "sweep": SweepConfig,
    "pipeline": PipelineConfig,
    "evaluate": EvaluateConfig,
    "play": EvaluateConfig,
    "merge": MergeConfig,
    "grade": GradeConfig,
    "pairs": PairsConfig,
    "audit": AuditConfig,
    "feasibility": RunConfig,
    "serve_grader": ServeConfig,
}
"""The schema of each primary file in `conf/`, named without `.yaml`."""
RECEIVERS: Mapping[str, str] = {"sweep": "trials", "pipeline": "stages"}
"""Primary files of the commands that pass the keys of `rft train` on, and the receivers of these keys."""


ONLY_TRAINED = frozenset(RunConfig.model_fields) - frozenset(EvaluateConfig.model_fields)
"""Sections and keys of an experiment that `rft play` leaves out."""


def config_name_of(command: str) -> str | None:
    """Return the primary file of a command such as `serve-grader`; None for a command without a configuration."""
    others = {"check": "train", "continue": "train"}
    name = others.get(command, command.replace("-", "_"))
    return name if name in SCHEMAS else None


def command_of(config_name: str) -> str:
    """Return the command as typed, such as `rft serve-grader`."""
    return f"rft {config_name.replace('_', '-')}"
