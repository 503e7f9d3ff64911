"""The command `rft doctor`: arguments, checks and output."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.text import Text

from rft.doctor.finding import Finding
from rft.doctor.machine import machine_findings
from rft.doctor.store import store_findings
from rft.doctor.template import template_findings
from rft.doctor.trials import trial_findings
from rft.imports import is_installed

MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "red")}


def run_doctor(words: Sequence[str], *, console: Console) -> int:
    """Check this machine and print each result immediately.

    Args:
        words: The arguments of `rft doctor`.
        console: Output.

    Returns:
        The exit code: 1 if a check failed, else 0.
    """
    arguments = parser().parse_args(words)
    findings = chain(
        store_findings(arguments.store) if arguments.store else (),
        machine_findings(Path(arguments.output)),
        template_findings(arguments.model, arguments.chat_template) if arguments.model else (),
        () if arguments.quick or not is_installed("ray") else trial_findings(arguments.cluster),
    )
    results = []
    for finding in findings:
        results.append(finding)
        if not arguments.json:
            _print(console, finding)
    failed = [finding.check for finding in results if finding.state == "fail"]
    if arguments.json:
        print(json.dumps({"ok": not failed, "findings": [asdict(finding) for finding in results]}, indent=2))
    else:
        console.print(Text(f"\nfailed: {', '.join(failed)}" if failed else "\nrft can run here"), soft_wrap=True)
    return 1 if failed else 0


def _print(console: Console, finding: Finding) -> None:
    mark, style = MARKS[finding.state]
    console.print(Text.assemble((mark, style), f"  {finding.check}: {finding.found}"), soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"      {finding.remedy}"), soft_wrap=True)


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(prog="rft doctor", description="Check whether rft can run on this machine.")
    parser.add_argument(
        "store", nargs="*", metavar="KEY=VALUE", help="also ask a store of passages, as retrieval=mongodb_atlas"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="start nothing: neither Ray nor vLLM")
    parser.add_argument("--cluster", metavar="ADDRESS", help="also check a Ray cluster: auto or <host>:<port>")
    parser.add_argument("--model", metavar="PATH", help="also check whether a model's chat template carries episodes")
    parser.add_argument("--chat-template", metavar="FILE", help="a template in place of the model's, with --model")
    parser.add_argument("--output", default="runs", metavar="FOLDER", help="folder for new runs (default: runs)")
    return parser
