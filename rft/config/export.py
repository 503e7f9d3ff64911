"""The settings of `rft export`."""

from __future__ import annotations

import re
import shlex
import shutil
from typing import Literal

from rft.config.fields import PositiveSeconds, Section

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
Form = Literal["adapter", "merged", "gguf"]


class ExportConfig(Section):
    """The result of a run in forms that other programs read: `rft export`."""

    run: str
    """A run folder, or an adapter folder."""
    out: str
    """Folder for the exported forms, each in a folder of its name; it must not exist."""
    forms: list[Form] = ["adapter", "merged"]
    """`adapter`: PEFT format, with card and certificate. `merged`: a plain model folder, proved equal to base model and
    adapter. `gguf`: one file for llama.cpp and others, which needs `converter` and `merged`."""
    base_model: str | None = None
    """The base model, like `model.path` of a run; null takes the adapter's."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the merged weights; `auto` keeps that of the base model."""
    converter: str | None = None
    """A program that writes GGUF, such as `python llama.cpp/convert_hf_to_gguf.py`. rft starts it without a shell, and
    adds the folder of the merged model, and `--outfile` with the file to write."""
    timeout_s: PositiveSeconds = 3600.0
    """Seconds for the converter, and for the upload."""
    push: str | None = None
    """Repository on the Hugging Face hub for `push_form`, as `<owner>/<name>`. It is created if it does not exist."""
    push_form: Literal["adapter", "merged"] = "adapter"
    """The form to push, with card and certificate."""
    private: bool = True
    """Whether a repository that rft creates is private."""


def export_problems(config: ExportConfig) -> list[str]:
    """Return all problems of an export, one sentence each."""
    problems = []
    wants_gguf = "gguf" in config.forms
    if not config.forms:
        problems.append("forms is empty: name adapter, merged or gguf")
    if wants_gguf and config.converter is None:
        problems.append(
            "converter is missing: rft brings no program that writes GGUF; name one, such as "
            "export.converter='python llama.cpp/convert_hf_to_gguf.py'"
        )
    if config.converter is not None and not wants_gguf:
        problems.append("converter has no effect without gguf in forms, such as forms=[merged,gguf]")
    if wants_gguf and "merged" not in config.forms:
        problems.append("forms: gguf is made from the merged model; add merged")
    if config.converter is not None:
        problems += _converter_problems(config.converter)
    if config.push is not None and not HUB_ID.fullmatch(config.push):
        problems.append(f"push={config.push}: write <owner>/<name>")
    if config.push is not None and config.push_form not in config.forms:
        problems.append(f"push_form={config.push_form} is not among forms; add it")
    return problems


def _converter_problems(converter: str) -> list[str]:
    try:
        words = shlex.split(converter)
    except ValueError as error:
        return [f"converter={converter}: {error}; check its quotes"]
    if not words:
        return ["converter is empty: name a program"]
    return [] if shutil.which(words[0]) else [f"converter={converter}: there is no program {words[0]}"]
