"""`rft export`: write the result of a run in forms that other programs read."""

from __future__ import annotations

import re

from rich.console import Console
from rich.text import Text

from rft.commands.actions import run_on_folder
from rft.config.export import ExportConfig, export_problems

USAGE = """\
usage: rft export <run> out=<folder> [forms=[adapter,merged,gguf]] [export.converter=<program>] [push=<owner>/<name>]

Write the adapter, the merged model and a GGUF file, and push one of them to the Hugging Face hub. Every key may be
written with export. before it.

{keys}
"""


def export(words: list[str]) -> int:
    """Write the forms, and print where they are and what serves them; return the exit code, 0."""
    short = [re.sub("^(--)?export\\.", r"\1", word) for word in words]
    return run_on_folder("export", short, ExportConfig, _export, USAGE, export_problems)


def _export(config: ExportConfig) -> int:
    from rft.api.export import export as export_run

    console = Console()
    exported = export_run(config, console)
    lines = [f"{form}: {folder}" for form, folder in exported.folders.items()]
    lines += [f"serve {form} with vLLM: {command}" for form, command in exported.serve.items()]
    lines += [f"pushed to {exported.pushed}"] * (exported.pushed is not None)
    lines += [f"note: {notice}" for notice in exported.notices]
    console.print(Text("\n".join(lines)), soft_wrap=True)
    return 0
