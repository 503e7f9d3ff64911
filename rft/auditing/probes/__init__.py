"""All probes, in the order of an audit."""

from __future__ import annotations

from rft.auditing.grader_profile import GraderProfile
from rft.auditing.probe import Probe
from rft.auditing.probes import code, cost, data, free, judges, passages, references, robustness, stability, texts

PROBES: tuple[Probe[GraderProfile], ...] = (
    *references.PROBES,
    *free.PROBES,
    *texts.PROBES,
    *judges.PROBES,
    *passages.PROBES,
    *code.PROBES,
    *data.PROBES,
    *stability.PROBES,
    *robustness.PROBES,
    *cost.PROBES,
)
"""`robustness` examines all scores before it. `cost` comes last, because it may run into many deadlines."""

__all__ = ["PROBES"]
