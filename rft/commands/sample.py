"""`rft sample`: try a base model or an adapter on a prompt, in this process and without Ray."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from rft.config.of_run import in_words, settings_of_run
from rft.config.samplers import SAMPLERS
from rft.config.samplers.base import SamplerConfig
from rft.data.rendering import Renderer
from rft.errors import ModelError
from rft.imports import require_packages
from rft.models.adapter_folder import base_model_of, load_adapter
from rft.models.base_model import context_tokens, load_tokenizer, locate
from rft.run.local_engine import open_local_engine
from rft.sampling.engine import Request, SamplingOptions, request_seed, sample_all
from rft.types import Split, Task


def sample(words: list[str]) -> int:
    """Sample completions of one prompt and print them."""
    return run_sample(words, console=Console())


def run_sample(words: Sequence[str], *, console: Console) -> int:
    """Sample completions of one prompt and print them.

    Args:
        words: The arguments of `rft sample`.
        console: Output.

    Raises:
        ModelError: The model or the adapter cannot be used.
        InstallError: The engine is not installed.
    """
    asked = parser().parse_args(words)
    require_packages("rft sample", *SAMPLERS[asked.sampler].libraries)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    adapter = None
    if asked.adapter is not None:
        adapter = load_adapter(Path(asked.adapter))
        if said := _take_settings_of_run(asked):
            print(said, file=sys.stderr)
        asked.model = asked.model or base_model_of(adapter, Path(asked.adapter))
    elif asked.model is None:
        raise ModelError("sample", ["give --adapter <run folder>, or --model <folder or hub id>, or both"])
    model = locate(asked.model)
    prompt_ids = _prompt(asked, model)
    context = context_tokens(model)
    if len(prompt_ids) >= context:
        raise ModelError("sample", [f"the prompt has {len(prompt_ids)} tokens, the model sees {context}"])
    engine = open_local_engine(asked.sampler, model, adapter, seed=asked.seed, num_completions=asked.num)
    options = SamplingOptions(
        temperature=asked.temperature,
        max_completion_tokens=min(asked.max_tokens or SamplerConfig().max_completion_tokens, context - len(prompt_ids)),
        stop=tuple(asked.stop or ()),
    )
    requests = [
        Request(task_id="prompt", index=index, prompt_ids=prompt_ids, seed=request_seed(asked.seed, index))
        for index in range(asked.num)
    ]
    rollouts = sample_all(engine, requests, options)
    for rollout in sorted(rollouts, key=lambda rollout: rollout.index):
        text = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in rollout.text)
        cut = "  (cut)" if rollout.stop == "length" else ""
        console.print(Text(text + cut), soft_wrap=True)
    return 0


def _prompt(asked: argparse.Namespace, model: Path) -> tuple[int, ...]:
    """Return the token ids of the prompt, rendered as in training."""
    messages = [{"role": "user", "content": asked.prompt}]
    if asked.system and asked.format != "raw":
        messages.insert(0, {"role": "system", "content": asked.system})
    is_chat = asked.format != "raw"
    tokenizer = load_tokenizer(model, asked.chat_template, needs_template=is_chat)
    renderer = Renderer(tokenizer, format="chat" if is_chat else "raw", variables=asked.chat_template_kwargs)
    return renderer.render(Task(id="prompt", messages=tuple(messages), item={}, split=Split.TEST))


def _take_settings_of_run(asked: argparse.Namespace) -> str:
    """Fill in missing options with the settings of the adapter's run; print them in one line."""
    options = {
        "model.path": "model",
        "model.chat_template": "chat_template",
        "model.chat_template_kwargs": "chat_template_kwargs",
        "data.format": "format",
        "data.system": "system",
        "sampler.max_completion_tokens": "max_tokens",
        "sampler.stop": "stop",
    }
    taken = {}
    for key, value in settings_of_run(Path(asked.adapter), format=asked.format).items():
        if getattr(asked, options[key]) is None:
            setattr(asked, options[key], value)
            taken[key] = value
    return in_words(Path(asked.adapter), taken)


def _variables(text: str) -> dict[str, Any]:
    try:
        variables = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not JSON: {error}") from error
    if not isinstance(variables, dict):
        raise argparse.ArgumentTypeError(f'{text} is not a JSON object, such as {{"enable_thinking": false}}')
    return variables


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(prog="rft sample", description="Try a base model or an adapter on a prompt.")
    parser.add_argument("prompt", help="the user's message")
    parser.add_argument("--adapter", help="a run folder or an adapter folder")
    parser.add_argument("--model", help="base model: a folder, a hub id or embedded:tiny (default: the adapter's)")
    parser.add_argument("--system", help="a system message (default: that of the adapter's run)")
    parser.add_argument("--chat-template", help="a file with a Jinja chat template (default: the adapter's)")
    parser.add_argument(
        "--chat-template-kwargs",
        type=_variables,
        metavar="JSON",
        help="variables of the chat template, as '{\"enable_thinking\": false}' (default: those of the adapter's run)",
    )
    parser.add_argument(
        "--format",
        choices=("chat", "raw"),
        help="raw sends the prompt without a chat template (default: that of the adapter's run)",
    )
    parser.add_argument(
        "--stop",
        action="append",
        metavar="TEXT",
        help="a string that ends a completion; may be repeated (default: those of the adapter's run)",
    )
    parser.add_argument("--num", type=int, default=1, metavar="N", help="number of completions (default 1)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="0 selects the most likely token (default 1)",
    )
    parser.add_argument(
        "--max-tokens", type=int, metavar="N", help="longest completion (default: that of the adapter's run, or 256)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the sampling (default 0)")
    parser.add_argument(
        "--sampler", choices=("vllm", "transformers"), default="vllm", help="engine that samples (default vllm)"
    )
    return parser
