"""`rft audit`: probes the graders of a run before training."""

from __future__ import annotations

from rich.console import Console

from rft.api.audit import audit_graders, plan_audit
from rft.auditing.terminal import print_report
from rft.config import AuditConfig
from rft.run.plan import print_plan


def run_audit(config: AuditConfig, *, console: Console) -> int:
    """Audit and print the report.

    Returns:
        The exit code: 0, or 1 if a probe failed.

    Raises:
        RftError: The audit cannot run; the message has the reason and a remedy.
    """
    audit = audit_graders(config, console)
    print_report(console, audit.report, folder=audit.folder, page=audit.page)
    return 0 if audit.passed else 1


def check_audit(config: AuditConfig, *, console: Console) -> int:
    """Print the plan of an audit.

    Returns:
        0.

    Raises:
        UsageError: The message lists all problems.
    """
    print_plan(console, plan_audit(config))
    return 0
