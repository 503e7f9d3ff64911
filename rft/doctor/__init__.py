"""`rft doctor`: finds problems that prevent rft from running, with remedies."""

from __future__ import annotations

from rft.doctor.finding import Finding
from rft.doctor.report import run_doctor

__all__ = ["Finding", "run_doctor"]
