"""All probes, in the order in which they are run."""

from __future__ import annotations

from rft.auditing.probe import Probe
from rft.auditing.probes import code, cost, data, free, judges, references, robustness, stability, texts

PROBES: tuple[Probe, ...] = (
    *references.PROBES,
    *free.PROBES,
    *texts.PROBES,
    *judges.PROBES,
    *code.PROBES,
    *data.PROBES,
    *stability.PROBES,
    *robustness.PROBES,
    *cost.PROBES,
)
"""`robustness` looks at all that was graded before it; `cost` may take many deadlines, so it comes last."""

__all__ = ["PROBES"]
