"""`rft.sample`: completions of one prompt, sampled in this process and without Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rft.config.adapter_settings import in_words, refuse_foreign_addresses, run_folder_of, settings_of_run
from rft.config.samplers import SAMPLERS
from rft.config.samplers.base import SamplerConfig
from rft.data.rendering import Renderer
from rft.data.shots import FILE as SHOTS
from rft.data.shots import Shots, read_shots
from rft.errors import ModelError
from rft.imports import require_packages
from rft.models.adapter_folder import base_model_of, load_adapter
from rft.models.base_model import context_tokens, load_tokenizer, locate
from rft.run.inputs.grounded_tasks import grounded_task
from rft.run.local_engine import forecast_local_engine, open_local_engine
from rft.sampling.engine import Request, SamplingOptions, request_seed, sample_all
from rft.types import Adapter, Rollout, Split, Task

SETTINGS = {
    "model.path": "model",
    "model.chat_template": "chat_template",
    "model.chat_template_kwargs": "chat_template_kwargs",
    "data.format": "format",
    "data.system": "system",
    "data.shots": "shots",
    "retrieval": "retrieval",
    "sampler.max_completion_tokens": "max_tokens",
    "sampler.stop": "stop",
}
"""The option for each setting that a run shares with the samples of its adapter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """The options of `rft.sample`. None stands for the setting of the adapter's run.

    Example:
        SampleOptions(prompt="What is 2 + 3?", adapter="runs/quickstart/...", num=4)
    """

    prompt: str
    """The user's message."""
    adapter: str | os.PathLike[str] | None = None
    """A run folder or an adapter folder."""
    model: str | os.PathLike[str] | None = None
    """The base model: a folder, a hub id, `package:<Python package>` or `embedded:tiny`."""
    system: str | None = None
    """A system message."""
    shots: str | os.PathLike[str] | None = None
    """A run folder whose worked examples (`data.shots`) precede the prompt; an empty text gives none."""
    retrieval: Mapping[str, Any] | None = None
    """The settings of a store whose passages the prompt shows; an empty mapping shows none."""
    chat_template: str | None = None
    """A file with a Jinja chat template."""
    chat_template_kwargs: Mapping[str, Any] | None = None
    """Variables of the chat template."""
    format: Literal["chat", "raw"] | None = None
    """`raw` sends the prompt without a chat template."""
    stop: Sequence[str] | None = None
    """Strings that end a completion."""
    num: int = 1
    """The number of completions."""
    temperature: float = 1.0
    """Temperature of the softmax; 0 takes the likeliest token."""
    max_tokens: int | None = None
    """The longest completion, tokens."""
    seed: int = 0
    """Seed of the sampling."""
    sampler: Literal["vllm", "transformers"] = "vllm"
    """The engine."""


def sample(
    prompt: str,
    *,
    adapter: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    system: str | None = None,
    shots: str | os.PathLike[str] | None = None,
    retrieval: Mapping[str, Any] | None = None,
    chat_template: str | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    format: Literal["chat", "raw"] | None = None,
    stop: Sequence[str] | None = None,
    num: int = 1,
    temperature: float = 1.0,
    max_tokens: int | None = None,
    seed: int = 0,
    sampler: Literal["vllm", "transformers"] = "vllm",
) -> list[Rollout]:
    """Sample completions of one prompt from a base model or an adapter, without Ray.

    Each call loads the model. An option that is None takes the setting of the adapter's run, or the default.

    Args:
        prompt: The user's message.
        adapter: A run folder or an adapter folder.
        model: The base model, as in `model.path` of a run. By default, that of the adapter.
        system: A system message; an empty text gives none.
        shots: A run folder whose worked examples (`data.shots`) precede the prompt; an empty text gives none.
        retrieval: A store whose passages the prompt shows, as `{"kind": "local", "index": "index/"}`; `{}` for none.
        chat_template: A file with a Jinja chat template.
        chat_template_kwargs: Variables of the chat template, as `{"enable_thinking": False}`.
        format: `raw` sends the prompt without a chat template.
        stop: Strings that end a completion.
        num: The number of completions.
        temperature: Temperature of the softmax; 0 takes the likeliest token.
        max_tokens: The longest completion, tokens; 256 if neither this nor the run says otherwise.
        seed: The same seed gives the same completions.
        sampler: The engine.

    Returns:
        `[num]` completions, with token ids and log-probabilities.

    Raises:
        ModelError: The model or the adapter cannot be used, or the prompt is too long.
        InstallError: The engine is not installed.

    Example:
        [rollout.text for rollout in rft.sample("What is 2 + 3?", adapter=run.adapter, num=4)]
    """
    options = SampleOptions(
        prompt=prompt, adapter=adapter, model=model, system=system, shots=shots, retrieval=retrieval, num=num,
        chat_template=chat_template, chat_template_kwargs=chat_template_kwargs, format=format, stop=stop, seed=seed,
        temperature=temperature, max_tokens=max_tokens, sampler=sampler,
    )  # fmt: skip
    require_packages("rft.sample", *SAMPLERS[sampler].libraries)
    if adapter is None and model is None:
        raise ModelError("sample", ["give adapter (a run folder), or model (a folder or hub id), or both"])
    filled, loaded, _ = with_settings_of_run(options)
    return sample_prompt(filled, loaded)


def with_settings_of_run(options: SampleOptions) -> tuple[SampleOptions, Adapter | None, str]:
    """Load the adapter, and replace each None by the setting of the run that trained it.

    Returns:
        The options, the adapter, and a line that names the settings of the run; empty if none was taken.

    Raises:
        ModelError: The adapter cannot be read.
        UsageError: The run showed passages of a service (`refuse_foreign_addresses`).
    """
    if options.adapter is None:
        return options, None, ""
    folder = Path(options.adapter)
    adapter = load_adapter(folder)
    settings = settings_of_run(folder, format=options.format)
    taken = {key: value for key, value in settings.items() if getattr(options, SETTINGS[key]) is None}
    if "retrieval" in taken:
        refuse_foreign_addresses(folder, taken["retrieval"])
    options = replace(options, **{SETTINGS[key]: value for key, value in taken.items()})
    if "data.shots" in taken:
        options = replace(options, shots=run_folder_of(folder))  # instead of their number
    if options.model is None:
        options = replace(options, model=base_model_of(adapter, folder))
    return options, adapter, in_words(folder, taken)


def sample_prompt(
    options: SampleOptions, adapter: Adapter | None, tell: Callable[[str], None] = lambda text: None
) -> list[Rollout]:
    """Sample with all options given; return `[num]` completions.

    Args:
        options: The options.
        adapter: The adapter; None samples from the base model.
        tell: Receives the memory forecast, line by line, before anything is loaded.

    Raises:
        ModelError: The model or the adapter cannot be used, or the prompt is too long.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    model = locate(os.fspath(options.model or ""))
    prompt_ids = _prompt(options, model)
    context = context_tokens(model)
    if len(prompt_ids) >= context:
        raise ModelError("sample", [f"the prompt has {len(prompt_ids)} tokens, the model sees {context}"])
    longest = min(options.max_tokens or SamplerConfig().max_completion_tokens, context - len(prompt_ids))
    forecast = forecast_local_engine(
        options.sampler,
        model,
        adapter,
        num_completions=options.num,
        prompt_tokens=len(prompt_ids),
        max_completion_tokens=longest,
    )
    for line in forecast.lines():
        tell(line)
    engine = open_local_engine(options.sampler, model, adapter, seed=options.seed, num_completions=options.num)
    sampling = SamplingOptions(
        temperature=options.temperature,
        max_completion_tokens=longest,
        stop=tuple(options.stop or ()),
    )
    requests = [
        Request(task_id="prompt", index=index, prompt_ids=prompt_ids, seed=request_seed(options.seed, index))
        for index in range(options.num)
    ]
    return sorted(sample_all(engine, requests, sampling), key=lambda rollout: rollout.index)


def _prompt(options: SampleOptions, model: Path) -> tuple[int, ...]:
    """Return the token ids of the prompt, rendered as in training."""
    return renderer_of(options, model).render(task_of(options))


def renderer_of(options: SampleOptions, model: Path) -> Renderer:
    """Return what renders prompts as in training.

    Args:
        options: The options, with all settings.
        model: Folder of the base model.

    Raises:
        ModelError: The tokenizer or the worked examples cannot be used.
    """
    is_chat = options.format != "raw"
    tokenizer = load_tokenizer(model, options.chat_template, needs_template=is_chat)
    return Renderer(
        tokenizer,
        format="chat" if is_chat else "raw",
        variables=options.chat_template_kwargs,
        shots=_shots(options.shots),
    )


def task_of(options: SampleOptions) -> Task:
    """Return the prompt as a task, with passages if there is a store.

    Raises:
        UsageError: The store cannot be used.
        RetrievalError: The store failed too often.
    """
    messages = [{"role": "user", "content": options.prompt}]
    if options.system and options.format != "raw":
        messages.insert(0, {"role": "system", "content": options.system})
    task = Task(id="prompt", messages=tuple(messages), item={}, split=Split.TEST, where="the prompt")
    return grounded_task(options.retrieval, task) if options.retrieval else task


def _shots(folder: str | os.PathLike[str] | None) -> Shots | None:
    """Return the worked examples of a folder; None without one.

    Raises:
        ModelError: The folder has none.
        UsageError: The record is damaged.
    """
    if not folder:
        return None
    shots = read_shots(Path(folder))
    if shots is None:
        problem = f"shots={os.fspath(folder)}: the folder has no worked examples ({SHOTS}); give a run with data.shots"
        raise ModelError("sample", [problem])
    return shots
