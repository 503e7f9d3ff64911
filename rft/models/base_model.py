"""The base model on disk: location, completeness, tokenizer, context length and fingerprint.

Only `load_tokenizer` may import torch: `AutoTokenizer` does so for rare kinds of tokenizers.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from rft.data.chat_templates import TEMPLATE_NAMES, shipped_template
from rft.errors import ModelError
from rft.models.architectures import TRIED, architecture_problems
from rft.models.package_models import PREFIX, find_gguf, restore
from rft.models.weight_files import INDEX, read_weights
from rft.waiting import waiting
from rft.wording import expectation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EMBEDDED_MODELS = {
    "embedded:tiny": Path(__file__).parents[1] / "embedded" / "model",
    "embedded:agent": Path(__file__).parents[1] / "embedded" / "agent",
}
"""Models shipped with rft, by their names in the configuration."""

LOCAL_NAMES = ("embedded:", PREFIX)
"""Beginnings of names of models that are neither paths nor on the hub."""

_TOKENIZER = ("*token*", "vocab.*", "merges.txt", "*.model", "chat_template*")
_CONTENT = ("config.json", *_TOKENIZER, "*.safetensors")
"""Files that determine the output of a model: configuration, tokenizer and weights."""

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class _Config(BaseModel):
    """The part of a model's `config.json` whose types rft relies on; Transformers and vLLM check the rest."""

    model_type: str | None = None
    architectures: list[str] | None = None
    text_config: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None


def locate(path: str, key: str = "model.path") -> Path:
    """Find a base model; download it if it is on the hub, restore it if it is in a Python package.

    Args:
        path: A name of `EMBEDDED_MODELS`, `package:<name>`, a folder, or a model id on the Hugging Face hub as
            `<owner>/<name>`.
        key: The configuration key of the path, for messages.

    Returns:
        A folder with `config.json` and weights as `*.safetensors`.

    Raises:
        ModelError: The model does not exist, is incomplete, or cannot be trained.
        InstallError: A library that restores the model of a package is missing.
    """
    if path.startswith("embedded:"):
        if path not in EMBEDDED_MODELS:
            raise _error(f"{key}={path} is not shipped with rft; available: {', '.join(EMBEDDED_MODELS)}")
        folder = EMBEDDED_MODELS[path]
    elif path.startswith(PREFIX):
        folder = restore(path, key)
    else:
        folder = Path(path).expanduser()
        if os.path.isfile(folder):  # Path.is_file raises if a parent folder denies access
            raise _error(f"{key}={path} is a file; give the folder with config.json and *.safetensors")
        if not os.path.exists(folder):
            folder = _download(path, key)
    if missing := _missing(folder, path):
        raise _error(f"{key}={path}: the model in {folder.absolute()} is incomplete: {'; '.join(missing)}")
    if problems := architecture_problems(read_config(folder)):
        raise ModelError("base model", [f"{key}={path}: {problem}" for problem in problems])
    return folder


def refuse_place(path: str, key: str = "model.path") -> None:
    """Refuse a model that does not exist or cannot be used, without a request to the hub. Arguments like
    `locate`. A model in a Python package is not restored.

    Raises:
        ModelError: The folder does not exist, or `locate` would refuse the model.
    """
    if path.startswith(PREFIX):
        find_gguf(path, key)
    elif path.startswith("embedded:") or os.path.exists(Path(path).expanduser()) or not _HUB_ID.fullmatch(path):
        locate(path, key)


def read_config(folder: Path) -> dict[str, Any]:
    """Read a model's `config.json`.

    Raises:
        ModelError: The file cannot be read, or is not the configuration of a model.
    """
    config = _read_json(file := folder / "config.json")
    try:
        _Config.model_validate(config)
    except ValidationError as error:
        details = "; ".join(f"{'.'.join(map(str, item['loc']))}: {expectation(item)}" for item in error.errors())
        raise _error(f"{file} is not the configuration of a model: {details}; copy it again") from error
    return config


def load_tokenizer(folder: Path, chat_template: str | None, *, needs_template: bool = True) -> PreTrainedTokenizerBase:
    """Load a base model's tokenizer.

    Args:
        folder: From `locate`.
        chat_template: `model.chat_template`: a Jinja file, or one of `TEMPLATE_NAMES`, that replaces the model's own
            template; None keeps the model's template.
        needs_template: Whether to refuse a tokenizer without a chat template.

    Raises:
        ModelError: The tokenizer cannot be loaded, or has no chat template.
    """
    import transformers

    kind = getattr(transformers, _tokenizer_class(folder))
    template = None
    if chat_template is not None:
        template = shipped_template(chat_template) or _read_template(Path(chat_template).expanduser())
    try:
        # Without trust_remote_code=False, a tokenizer with its own code would prompt on the terminal and wait.
        tokenizer = kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # each kind of tokenizer raises its own errors
        files = ", ".join(file.name for file in _matching(folder, _TOKENIZER))
        raise _error(
            f"the tokenizer in {folder} cannot be loaded: {_first_line(error)}; it has the files: "
            f"{files or 'none'}; it needs tokenizer.json and tokenizer_config.json (or its kind's own files)"
        ) from error
    if template is not None:
        tokenizer.chat_template = template
    if needs_template and not tokenizer.chat_template:
        raise _error(
            f"the tokenizer in {folder} has no chat template, so the model may not be tuned for chat; set "
            "model.chat_template=<file.jinja>, or a template of rft "
            f"({', '.join(TEMPLATE_NAMES)}); or send prompts unchanged with data.format=raw; or use the model's "
            "instruct variant"
        )
    return tokenizer


def _tokenizer_class(folder: Path) -> str:
    """Return the class that loads a tokenizer; for common models, the class that `AutoTokenizer` would select.

    `AutoTokenizer` imports torch, which takes two seconds and 300 MB.
    """
    config = _read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    model_type, declared = read_config(folder).get("model_type"), str(config.get("tokenizer_class"))
    if (
        model_type not in TRIED
        or "auto_map" in config
        or not (folder / "tokenizer.json").is_file()
        or (folder / "tekken.json").exists()  # Mistral's own format
    ):
        return "AutoTokenizer"
    is_plain = declared in ("TokenizersBackend", "PreTrainedTokenizerFast")
    if (model_type == "qwen2" and is_plain) or (
        model_type in ("qwen2", "qwen3") and declared.removesuffix("Fast") == "Qwen2Tokenizer"
    ):
        return "Qwen2Tokenizer"  # AutoTokenizer treats every other declaration for Qwen2 as a mistake
    return "PreTrainedTokenizerFast" if is_plain else "AutoTokenizer"


def context_tokens(folder: Path) -> int:
    """Return the maximum tokens of prompt and completion together.

    Args:
        folder: From `locate`.

    Raises:
        ModelError: `config.json` cannot be read or does not contain the limit.
    """
    config = read_config(folder)
    for place in (config, config.get("text_config") or {}):
        for name in ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len"):
            if isinstance(tokens := place.get(name), int) and tokens > 0:
                return tokens
    raise _error(
        f"{folder / 'config.json'} does not contain the context length (max_position_embeddings), neither at "
        "the top nor in text_config; set model.max_context_tokens=<prompt and completion together>"
    )


def fingerprint(folder: Path) -> str:
    """Hash the files that determine the output of a model, to 16 hexadecimal digits.

    The hash depends neither on the location of the folder nor on other files (a README, an older weight format).
    """
    total = hashlib.sha256()
    with waiting(f"the fingerprint of the base model in {folder}"):
        for path in content_files(folder):
            with path.open("rb") as file:
                total.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def content_files(folder: Path) -> list[Path]:
    """Return the files that determine the output of a model, sorted: configuration, tokenizer and weights."""
    return _matching(folder, _CONTENT)


def _error(problem: str) -> ModelError:
    return ModelError("base model", [problem])


def _matching(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern) if file.is_file()})


def _missing(folder: Path, path: str) -> list[str]:
    """Return the missing parts of a model; `path` is its name in the configuration."""
    try:
        names = set(os.listdir(folder))
    except OSError as error:
        return [f"it cannot be listed: {error.strerror}"]
    if "adapter_config.json" in names and "config.json" not in names:
        return ["the folder contains an adapter; set model.path to its base model"]
    missing = [] if "config.json" in names else ["config.json is missing"]
    if INDEX not in names and not any(name.endswith(".safetensors") for name in names):
        return [*missing, "weights are missing (*.safetensors)" + _how_to_convert(names, path)]
    return [*missing, *read_weights(folder).problems]


def _how_to_convert(names: Collection[str], path: str) -> str:
    """Return how to convert weights in another format."""
    if old := sorted(name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))):
        return (
            f"; {', '.join(old[:3])} must be converted first, in Python: "
            "from transformers import AutoModelForCausalLM; "
            f"AutoModelForCausalLM.from_pretrained({path!r}).save_pretrained({path!r})"
        )
    if other := sorted(name for name in names if name.endswith((".gguf", ".onnx", ".h5", ".msgpack", ".npz"))):
        return f"; {', '.join(other[:3])} belongs to other programs; use the model from which it was made"
    return ""


def _download(path: str, key: str) -> Path:
    near = _near_folders(Path(path).expanduser())
    if not _HUB_ID.fullmatch(path):
        raise _error(f"{key}={path}: no folder at {Path(path).expanduser().absolute()}{near}")
    from huggingface_hub import snapshot_download

    try:
        with waiting(f"the model {path} from the Hugging Face hub"):
            # Top level only: subfolders contain the same weights in other formats.
            return Path(snapshot_download(path, allow_patterns=[*_CONTENT, "*.json"], ignore_patterns=["*/*"]))
    except Exception as error:  # network, hub, gated and unknown ids raise different types
        raise _error(
            f"{key}={path} is neither a local folder nor a model that the Hugging Face hub returned "
            f"({_first_line(error)}){near}; give a folder with config.json and *.safetensors, or check the name at "
            f"https://huggingface.co/{path}, the network (HF_HUB_OFFLINE=1 forbids it) and HF_TOKEN (for a gated "
            "model); model.path=embedded:tiny needs no download"
        ) from error


def _near_folders(path: Path) -> str:
    if not os.access(path.parent, os.R_OK | os.X_OK):
        return ""
    names = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    nearest = difflib.get_close_matches(path.name, names, n=3)
    return f"; similar names: {', '.join(str(path.parent / name) for name in nearest)}" if nearest else ""


def _read_template(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _error(
            f"model.chat_template={path}: {path.absolute()} cannot be read: {error}; give a text file with the "
            f"template, or one of these names: {', '.join(TEMPLATE_NAMES)}"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _error(f"{path} cannot be read: {error}; copy or download the model again") from error
    if not isinstance(content, dict):
        raise _error(f"{path} contains no JSON object; copy or download the model again")
    return content


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
