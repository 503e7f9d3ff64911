"""A model of lm-evaluation-harness that samples from an engine of rft.

Only tasks that generate text can be run (`generate_until`). Tasks that compare the likelihood of given answers need
whether each answer is the likeliest one, which engines of rft do not report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from rft.config.recorded_yaml import refuse_large_yaml
from rft.data.rendering import Renderer
from rft.errors import UsageError
from rft.sampling.engine import Engine, Request, SamplingOptions, request_seed, sample_all
from rft.types import Split, Task

UNSUPPORTED = {"top_p": 1.0, "top_k": (0, 1, -1, 50), "num_beams": 1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Settings of generation that an engine of rft does not have, with their values that change nothing. Greedy decoding
ignores the first two."""


class _How(NamedTuple):
    """Sampling options of a request."""

    temperature: float
    max_tokens: int
    stop: tuple[str, ...]


class HarnessModel(LM):  # type: ignore[misc]  # its types are not followed
    """Samples the requests of tasks under the newest policy of an engine.

    Args:
        engine: The engine.
        renderer: Renders a prompt as in training.
        system: A system message before each prompt; None for none.
        stop: Strings that end a completion, besides those of the task.
        context_tokens: Largest number of tokens of prompt and completion.
        max_tokens: Longest completion where a task has no limit.
        batch: Number of completions to sample at once.
        seed: Seed of the sampling.
    """

    def __init__(
        self,
        engine: Engine,
        renderer: Renderer,
        *,
        system: str | None,
        stop: tuple[str, ...],
        context_tokens: int,
        max_tokens: int,
        batch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._renderer = renderer
        self._system = [{"role": "system", "content": system}] if system else []
        self._stop = stop
        self._context_tokens = context_tokens
        self._max_tokens = max_tokens
        self._batch = batch
        self._seed = seed

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return a completion of each request.

        Raises:
            UsageError: A task generates with settings that the engine does not have, or a prompt is too long.
        """
        prompts = [self._prompt(number, str(one.args[0])) for number, one in enumerate(requests)]
        by_how: dict[_How, list[int]] = {}
        for number, one in enumerate(requests):
            how = self._how(str(one.task_name), one.args[1])
            longest = self._context_tokens - len(prompts[number])
            if longest < 1:
                problem = (
                    f"{one.task_name}, sample {one.doc_id}: the prompt has {len(prompts[number])} tokens, the model "
                    f"sees {self._context_tokens}; use fewer examples (num_fewshot)"
                )
                raise UsageError("benchmark", [problem])
            by_how.setdefault(how._replace(max_tokens=min(how.max_tokens, longest)), []).append(number)
        texts = [""] * len(requests)
        for how, numbers in by_how.items():
            for first in range(0, len(numbers), self._batch):
                for number, text in self._sampled(requests, prompts, numbers[first : first + self._batch], how):
                    texts[number] = text
        return texts

    def _sampled(
        self, requests: Sequence[Instance], prompts: Sequence[tuple[int, ...]], numbers: Sequence[int], how: _How
    ) -> list[tuple[int, str]]:
        """Sample some requests; return the text of each by its number."""
        wanted = [
            Request(
                task_id=str(number),
                index=0,
                prompt_ids=prompts[number],
                seed=request_seed(
                    self._seed, requests[number].task_name, requests[number].doc_id, requests[number].idx
                ),
            )
            for number in numbers
        ]
        options = SamplingOptions(
            temperature=how.temperature, max_completion_tokens=how.max_tokens, stop=(*self._stop, *how.stop)
        )
        return [(int(one.task_id), one.text) for one in sample_all(self._engine, wanted, options)]

    def _prompt(self, number: int, text: str) -> tuple[int, ...]:
        messages = (*self._system, {"role": "user", "content": text})
        where = f"prompt {number + 1} of the benchmark"
        return self._renderer.render(Task(id=str(number), messages=messages, item={}, split=Split.TEST, where=where))

    def _how(self, task: str, given: Mapping[str, Any]) -> _How:
        """Return the sampling options of a task's settings of generation."""
        is_greedy = not given.get("do_sample", False) or given.get("temperature", 1.0) == 0
        problems = [
            f"{task}: generates with {name}={given[name]}, which rft's engines do not have"
            for name, neutral in UNSUPPORTED.items()
            if name in given
            and not (is_greedy and name in ("top_p", "top_k"))
            and given[name] not in (neutral if isinstance(neutral, tuple) else (neutral,))
        ]
        if problems:
            raise UsageError("benchmark", problems)
        until = given.get("until") or ()
        return _How(
            temperature=0.0 if is_greedy else float(given.get("temperature", 1.0)),
            max_tokens=int(given.get("max_gen_toks") or self._max_tokens),
            stop=(until,) if isinstance(until, str) else tuple(text for text in until if text),
        )

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Refuse the request; `run_tasks` has refused the task before."""
        raise NotImplementedError("rft benchmark runs tasks that generate text")

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Refuse the request; `run_tasks` has refused the task before."""
        raise NotImplementedError("rft benchmark runs tasks that generate text")


def run_tasks(
    model: HarnessModel,
    tasks: Sequence[str],
    *,
    include: Path | None,
    limit: int | None,
    num_fewshot: int | None,
) -> dict[str, list[dict[str, Any]]]:
    """Run tasks; return the logged samples of each.

    Args:
        model: The model.
        tasks: Names of tasks or groups, or `.yaml` files of tasks.
        include: A folder with further tasks.
        limit: Number of samples of each task; None takes all.
        num_fewshot: Number of solved examples before each prompt; None takes that of the task.

    Raises:
        UsageError: A task does not exist, does not generate text, or is in a file that unfolds without limit.
    """
    files = [Path(name) for name in tasks if name.endswith(".yaml")]
    for file in [*files, *([] if include is None else include.rglob("*.yaml"))]:
        if file.is_file():
            refuse_large_yaml(file, what="benchmark")
    named = [name for name in tasks if not name.endswith(".yaml")]
    manager = TaskManager(
        include_path=None if include is None else str(include),
        include_defaults=bool(named),  # reading the index of thousands of tasks takes a while
    )
    unknown = [name for name in named if name not in manager.all_tasks]
    if unknown:
        raise UsageError(
            "benchmark", [f"{name}: lm-evaluation-harness has no such task; give its .yaml file" for name in unknown]
        )
    loaded = manager.load(list(tasks))["tasks"]
    refused = [
        f"{name}: it scores with {one.OUTPUT_TYPE}; rft benchmark runs tasks that generate text (generate_until)"
        for name, one in loaded.items()
        if one.OUTPUT_TYPE != "generate_until"
    ]
    if refused:
        raise UsageError("benchmark", refused)
    found = simple_evaluate(
        model=model,
        tasks=list(loaded.values()),
        num_fewshot=num_fewshot,
        limit=limit,
        bootstrap_iters=0,
        log_samples=True,
        task_manager=manager,
    )
    samples: dict[str, list[dict[str, Any]]] = (found or {}).get("samples", {})
    return samples
