"""An audit of graders that a file holds, on tasks of a table."""

import asyncio
import sys
from dataclasses import replace

import pytest

from rft.auditing import audit_panel
from rft.auditing.audit_panel import AuditPanel
from rft.auditing.grader_profile import GraderProfile
from rft.types import Task

SUMS = [(3, 4), (20, 22), (13, 8), (50, 9), (17, 60), (5, 31), (44, 11), (2, 10)]
"""Sums: 7, 42, 21, 59, 77, 36, 55, 12; all different, none of them in its question."""


def make_tasks(rows):
    return [
        Task(id=f"t{number}", messages=({"role": "user", "content": row.pop("prompt")},), item=row, split="train")
        for number, row in enumerate([dict(row) for row in rows])
    ]


def sums():
    return make_tasks([{"prompt": f"What is {a} + {b}?", "answer": str(a + b)} for a, b in SUMS])


class Audit:
    """Runs probes on graders."""

    def __init__(self, folder):
        self.folder = folder
        self.profile = None

    def file(self, source):
        (self.folder / "mine.py").write_text(source)

    def __call__(self, entries, *probes, tasks=None, gold="answer", **options):
        """Return the finding of each probe."""
        if isinstance(entries, str):
            entries = {"main": {"use": f"mine.py:{entries}" if ".py" not in entries else entries, "timeout_s": 20}}
        return asyncio.run(self._run(entries, probes, tasks or sums(), gold, options))

    async def _run(self, entries, probes, tasks, gold, options):
        panel = AuditPanel(entries, max_concurrency=16, num_workers=2)
        self.profile = GraderProfile(panel=panel, tasks=tasks, gold=gold, **options)
        try:
            await self.profile.calibrate()
            findings = [await probe(self.profile) for probe in probes]
        finally:
            panel.close()
        return findings[0] if len(findings) == 1 else findings


in_worker = audit_panel._in_worker


@pytest.fixture
def audit(tmp_path, monkeypatch):
    """A folder for graders as the working directory; they run in this process, which starts no other for each call."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(audit_panel, "_in_worker", lambda grader: replace(grader, in_process=True))
    return Audit(tmp_path)


@pytest.fixture
def in_workers(audit, monkeypatch):
    """Graders run in worker processes after all, as in every real audit."""
    monkeypatch.setattr(audit_panel, "_in_worker", in_worker)
