"""`rft audit`: probe graders before training."""

from __future__ import annotations

from rich.console import Console

from rft.commands.configured import configured
from rft.config import AuditConfig
from rft.config.commands import load_audit, written_out


def audit(words: list[str]) -> int:
    """Audit and print the report.

    Returns:
        The exit code: 0, or 1 if a probe failed or was inconclusive.
    """
    return configured("audit", written_out(words, "tasks"), load_audit, _audit)


def _audit(config: AuditConfig) -> int:
    from rft.api.audit import audit_graders, plan_audit
    from rft.auditing.terminal import print_report
    from rft.run.forecast.plan import print_plan

    console = Console()
    if config.dry_run:
        print_plan(console, plan_audit(config))
        return 0
    audit = audit_graders(config, console)
    print_report(console, audit.report, folder=audit.folder, page=audit.page)
    return 0 if audit.passed else 1
