"""`rft sample`: try a base model or an adapter on a prompt, in this process and without Ray."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from rich.console import Console
from rich.text import Text

from rft.config.samplers import SAMPLERS
from rft.errors import ModelError
from rft.imports import require_packages


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
    from rft.api.sample import SampleOptions, sample_prompt, with_settings_of_run

    options = SampleOptions(**vars(parser().parse_args(words)))
    require_packages("rft sample", *SAMPLERS[options.sampler].libraries)
    if options.adapter is None and options.model is None:
        raise ModelError("sample", ["give --adapter <run folder>, or --model <folder or hub id>, or both"])
    options, adapter, settings = with_settings_of_run(options)
    if settings:
        print(settings, file=sys.stderr)
    for rollout in sample_prompt(options, adapter, tell=partial(print, file=sys.stderr)):
        text = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in rollout.text)
        cut = "  (cut)" if rollout.stop == "length" else ""
        console.print(Text(text + cut), soft_wrap=True)
    return 0


def _variables(text: str) -> dict[str, Any]:
    try:
        variables = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is not JSON: {error}") from error
    if not isinstance(variables, dict):
        raise argparse.ArgumentTypeError(f'{text} is not a JSON object, such as {{"enable_thinking": false}}')
    return variables


def _local_store(folder: str) -> dict[str, Any]:
    return {"kind": "local", "index": folder} if folder else {}


def parser() -> argparse.ArgumentParser:
    """Return the options of the command."""
    parser = argparse.ArgumentParser(prog="rft sample", description="Try a base model or an adapter on a prompt.")
    parser.add_argument("prompt", help="the user's message")
    parser.add_argument("--adapter", help="a run folder or an adapter folder")
    parser.add_argument("--model", help="base model, as in model.path of rft train (default: the adapter's)")
    parser.add_argument("--system", help="a system message (default: that of the adapter's run)")
    parser.add_argument(
        "--shots",
        metavar="RUN",
        help="a run folder whose worked examples precede the prompt (default: those of the adapter's run; '' for none)",
    )
    parser.add_argument(
        "--index",
        dest="retrieval",
        type=_local_store,
        metavar="FOLDER",
        help="an index whose passages the prompt shows (default: the store of the adapter's run; '' for none)",
    )
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
