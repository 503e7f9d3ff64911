"""`rft.export`: writes the result of a run in forms that other programs read, and pushes it to the hub."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from rft.api.merge import run_merge
from rft.config import MergeConfig
from rft.config.adapter_settings import settings_of_run
from rft.config.export import ExportConfig
from rft.config.schema import MergeModelConfig
from rft.errors import OutputError, StorageError, UsageError, WriteError
from rft.evidence.certificate.envelope import BUNDLE, CERTIFICATE
from rft.models.adapter_folder import base_model_of, find_adapter, load_adapter, max_rank, whole_model
from rft.models.base_model import EMBEDDED_MODELS
from rft.redaction import hide_in_message
from rft.run_folder.model_snippets import serve_adapter, serve_model
from rft.run_folder.result_folders import whole_folder
from rft.waiting import waiting, within

ADAPTER_CERTIFICATES = {name: f"ADAPTER_{name.replace('certificate', 'CERTIFICATE')}" for name in (CERTIFICATE, BUNDLE)}
"""Names of the adapter's certificates in the folder of the merged model, whose files they do not list."""
MAGIC = b"GGUF"
"""The first bytes of a GGUF file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The exported forms.

    Example:
        Exported(folders={"merged": Path("out/merged")}, serve={"merged": "vllm serve out/merged"}, pushed=None)
    """

    folders: dict[str, Path]
    """The folder or file of each form."""
    serve: dict[str, str]
    """The command that serves a form with vLLM."""
    pushed: str | None
    """Address on the hub; None without a push."""
    notices: list[str] = field(default_factory=list)
    """What a reader must know, one sentence each."""


def export(config: ExportConfig, console: Console) -> Exported:
    """Write the forms, and push one of them.

    Args:
        config: A checked configuration.
        console: Shows the proof of the merge.

    Raises:
        UsageError: The result cannot be exported; nothing was written.
        InstallError: A package is missing.
        WriteError: A form cannot be written, or the converter failed; nothing remains.
        StorageError: The hub refused the push; the exported forms remain.
    """
    run, out = Path(config.run).expanduser(), Path(config.out).expanduser().absolute()
    model = whole_model(run)
    if out.exists():
        raise OutputError("export", [f"out={config.out} is there already; choose another folder"])
    if model is not None and "adapter" in config.forms:
        raise UsageError("export", [f"{run} trained all weights and has no adapter; write forms=[merged]"])
    source = find_adapter(run) if model is None else model
    signed = [name for name in ADAPTER_CERTIFICATES if (source / name).is_file()]
    folders: dict[str, Path] = {}
    try:
        out.mkdir(parents=True)
        if "adapter" in config.forms:
            folders["adapter"] = _copied(source, out / "adapter")
        if "merged" in config.forms:
            folders["merged"] = out / "merged"
            _copied(model, out / "merged") if model is not None else _merge(config, run, out / "merged", console)
            for name in signed if model is None else []:
                shutil.copy(source / name, out / "merged" / ADAPTER_CERTIFICATES[name])
        if "gguf" in config.forms:
            folders["gguf"] = _converted(config, out)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    notices = [] if signed else [f"{source} is not signed; rft certify signs the result"]
    pushed = None if config.push is None else _pushed(config, config.push, folders[config.push_form])
    return Exported(folders=folders, serve=_serve(config, run, folders), pushed=pushed, notices=notices)


def _copied(source: Path, target: Path) -> Path:
    """Copy the files of a result, card and certificate included, without hidden ones."""
    with whole_folder(target) as unfinished:
        shutil.copytree(source, unfinished, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    return target


def _merge(config: ExportConfig, run: Path, target: Path, console: Console) -> None:
    model = MergeModelConfig(path=config.base_model, dtype=config.dtype)
    run_merge(MergeConfig(adapter=str(run), output_dir=str(target), model=model), console=console)


def _converted(config: ExportConfig, out: Path) -> Path:
    """Run the user's converter on the merged model.

    Raises:
        WriteError: It failed, took too long, or wrote something else.
    """
    target = out / "model.gguf"
    command = [*shlex.split(config.converter or ""), str(out / "merged"), "--outfile", str(target)]
    shown = shlex.join(command)
    try:
        with waiting(f"the converter {command[0]}", deadline_s=config.timeout_s):
            done = subprocess.run(
                command, capture_output=True, text=True, errors="replace", timeout=config.timeout_s, check=False
            )
    except subprocess.TimeoutExpired as error:
        raise WriteError(f"{shown} took longer than {config.timeout_s:g} s; raise export.timeout_s") from error
    except OSError as error:
        raise WriteError(f"{shown} cannot be started: {error.strerror or error}") from error
    if done.returncode != 0:
        last = " ".join(done.stderr.strip().splitlines()[-3:]) or "it said nothing"
        raise WriteError(f"{shown} ended with exit code {done.returncode}: {last}")
    if not target.is_file():
        raise WriteError(f"{shown} wrote no file; rft expects it at the place after --outfile")
    with target.open("rb") as written:
        if written.read(len(MAGIC)) != MAGIC:
            raise WriteError(f"{shown} wrote a file that is not GGUF: it does not begin with {MAGIC.decode()}")
    return target


def _pushed(config: ExportConfig, repo: str, folder: Path) -> str:
    """Upload a folder to the hub; return its address.

    Raises:
        StorageError: The hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    api = HfApi()

    def push() -> None:
        api.create_repo(repo, private=config.private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=f"Upload {folder.name} with rft export")

    try:
        within(push, what=f"the upload to {repo} on the hub", deadline_s=config.timeout_s)
    except Exception as error:  # network, hub, token and time limit raise different types
        reason = " ".join(hide_in_message(str(error)).split())
        remedy = f"log in with `hf auth login` or HF_TOKEN; {folder} remains: hf upload {repo} {folder}"
        raise StorageError(f"push={repo}: {type(error).__name__}: {reason}; {remedy}") from error
    return f"{api.endpoint}/{repo}"


def _serve(config: ExportConfig, run: Path, folders: Mapping[str, Path]) -> dict[str, str]:
    """Return the commands that serve the forms with vLLM."""
    commands = {}
    if "adapter" in folders:
        adapter = load_adapter(run)
        base = config.base_model or settings_of_run(run).get("model.path") or base_model_of(adapter, run)
        base = str(EMBEDDED_MODELS.get(base, base))
        if command := serve_adapter(base, folders["adapter"], adapter.config, rank=max_rank(adapter)):
            commands["adapter"] = command
    if "merged" in folders:
        commands["merged"] = serve_model(folders["merged"])
    return commands
