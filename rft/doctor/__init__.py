"""`rft doctor`: what keeps this machine from running rft, each finding with its remedy."""

from __future__ import annotations

from rft.doctor.finding import Finding
from rft.doctor.report import run_doctor

__all__ = ["Finding", "run_doctor"]
