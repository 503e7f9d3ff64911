"""Merges an adapter into its base model, as a plain model folder, and writes its card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from rft.config import MergeConfig
from rft.config.adapter_settings import run_folder_of, settings_of_run
from rft.errors import OutputError
from rft.imports import prepare_bitsandbytes, require_packages
from rft.models.adapter_folder import base_model_of, find_adapter, load_adapter, whole_model
from rft.models.base_model import context_tokens, fingerprint, load_tokenizer, locate
from rft.models.origin import read_origin
from rft.run_folder.lineage import base_fingerprint
from rft.run_folder.model_card import merged_card
from rft.run_folder.model_snippets import Snippets
from rft.run_folder.recorder import refuse_output
from rft.run_folder.result_folders import whole_folder

if TYPE_CHECKING:
    from rft.run.base_models.merge import Merged

ADAPTER_CARD = "ADAPTER_README.md"
"""Name of the adapter's card in the folder of the merged model."""


def run_merge(config: MergeConfig, *, console: Console) -> int:
    """Merge with a checked configuration, prove the result and write it.

    Returns:
        The exit code.

    Raises:
        ModelError: Base model or adapter cannot be merged, or the merged model does not match.
        InstallError: torch or PEFT is not installed.
        OutputError: The output folder already exists, or cannot be written.
    """
    require_packages("rft merge", "torch", "peft")
    prepare_bitsandbytes(is_used=False)
    from rft.run.base_models.merge import write_merged

    path, target = Path(config.adapter or ""), Path(config.output_dir)
    if (model := whole_model(path)) is not None:
        notice = f"{path} trained all weights: there is nothing to merge, {model} is a plain model folder already"
        console.print(Text(notice), soft_wrap=True)
        return 0
    refuse_output(target)
    adapter = load_adapter(path)
    settings = settings_of_run(path)
    base = locate(config.model.path or settings.get("model.path") or base_model_of(adapter, path))
    if target.exists() and any(target.iterdir()):
        raise OutputError("output folder", [f"{target} is there already; choose another output_dir"])
    template = config.model.chat_template or settings.get("model.chat_template")
    tokenizer = load_tokenizer(base, template, needs_template=False)
    if config.dry_run:
        console.print(Text(f"no problems; {path} and {base} would be merged into {target}"), soft_wrap=True)
        return 0
    base_fingerprint = fingerprint(base)
    if warning := _other_base(path, base, base_fingerprint):
        console.print(Text(f"warning: {warning}"), soft_wrap=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as unfinished:
        merged = write_merged(base, find_adapter(path), unfinished, dtype=config.model.dtype, tokenizer=tokenizer)
        snippets = Snippets(
            folder=target.absolute(),
            max_tokens=settings.get("sampler.max_completion_tokens", min(256, context_tokens(base) // 2)),
            system=settings.get("data.system"),
            is_raw=settings.get("data.format") == "raw",
            template_options=settings.get("model.chat_template_kwargs", {}),
            stop=settings.get("sampler.stop", ()),
        )
        card = merged_card(
            base_model=str(adapter.config.get("base_model_name_or_path") or base),
            base_fingerprint=base_fingerprint,
            base_origin=read_origin(base),
            adapter=str(path.absolute()),
            adapter_fingerprint=adapter.policy.fingerprint,
            proof=" ".join(merged.lines()),
            snippets=snippets,
        )
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        if (adapter_card := find_adapter(path) / "README.md").is_file():
            shutil.copy(adapter_card, unfinished / ADAPTER_CARD)
    _report(console, merged, target)
    return 0


def _other_base(path: Path, base: Path, fingerprint: str) -> str:
    """Return a warning if the base model differs from that of the run; empty if it matches, or without a run.

    Args:
        path: Path of the adapter.
        base: Folder of the base model.
        fingerprint: Fingerprint of the base model.
    """
    run = run_folder_of(path)
    trained_on = base_fingerprint(run) if run is not None else None
    if trained_on in (None, fingerprint):
        return ""
    return f"{base} (fingerprint {fingerprint}) is not the base model that {run} trained on (fingerprint {trained_on})"


def _report(console: Console, merged: Merged, target: Path) -> None:
    lines = [f"merged into {target} ({merged.dtype})", *(f"  {line}" for line in merged.lines())]
    if merged.is_blurred:
        lines.append(
            f"warning: rounding to {merged.dtype} takes away more than half as much as the adapter brings; "
            "model.dtype=float32 keeps it"
        )
    console.print(Text("\n".join(lines)), soft_wrap=True)
