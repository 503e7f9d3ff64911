"""The readers and the renderer of training rows that contain answers, according to a run's learner."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from rft.config import EvaluateConfig, RunConfig
from rft.config.environment import plays_episodes
from rft.data.demonstration_records import Demonstration
from rft.data.demonstration_rows import RowRenderer
from rft.data.labelled_completions import LabelRenderer
from rft.data.preference_rows import PairRenderer
from rft.data.rendering import Renderer
from rft.data.shots import read_worked_tasks
from rft.data.splits import TaskSets
from rft.data.training_rows import READERS, READERS_OF_VALIDATION, TrainingRows
from rft.errors import DataError, ModelError
from rft.sampling.stops import model_stops
from rft.types import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def readers(config: RunConfig | EvaluateConfig) -> dict[str, Callable[..., list[Task]]]:
    """Return the readers of task files, as arguments of `rft.data.splits.load_task_sets`.

    An evaluation reads training tasks only for worked examples.
    """
    if plays_episodes(config):
        return dict.fromkeys(("read_train", "read_validation", "read_test"), READERS["episodes"])
    if isinstance(config, EvaluateConfig):
        return {"read_train": read_worked_tasks}
    takes = config.learner.takes
    return {"read_train": READERS[takes], "read_validation": READERS_OF_VALIDATION[takes]}


def refuse_missing_answers(config: RunConfig | EvaluateConfig, tasks: TaskSets) -> None:
    """Refuse validation tasks without an answer if the loss on their answers selects the best step.

    Raises:
        DataError: There are some.
    """
    if isinstance(config, EvaluateConfig) or config.evaluation.best_metric != "loss":
        return
    missing = [task for task in tasks.validation if not isinstance(task, Demonstration)]
    if missing:
        raise DataError(
            "task files",
            [
                f"evaluation.best_metric=loss: {len(missing)} of {len(tasks.validation)} validation tasks contain no "
                f"answer, the first is {missing[0].where or missing[0].id}; add a completion to each, as in data.train"
            ],
        )


def row_renderer(
    config: RunConfig | EvaluateConfig, model: Path, tokenizer: PreTrainedTokenizerBase, renderer: Renderer
) -> TrainingRows | None:
    """Return the renderer of the rows that the learner takes; None if it takes sampled completions.

    Args:
        config: The configuration.
        model: Folder of the base model.
        tokenizer: Its tokenizer, with the chat template of the run.
        renderer: Renders prompts.

    Raises:
        ModelError: The model has no end token.
    """
    if isinstance(config, EvaluateConfig) or config.learner.takes == "groups":
        return None
    end_ids = model_stops(model, tokenizer).adding(config.sampler.stop_strings, tokenizer).ids
    if not end_ids:
        raise ModelError("base model", ["it has no end token (eos_token), so an answer would never end; set one"])
    rows = RowRenderer.of(renderer, tokenizer, end_ids)
    match config.learner.takes:
        case "preferences":
            return PairRenderer(rows=rows)
        case "labelled completions":
            return LabelRenderer(rows=rows)
    return rows
