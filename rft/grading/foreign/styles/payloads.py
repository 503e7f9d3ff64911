"""Makes the arguments of each system's reward functions from a task and its completions: one function per style.

A payload maps parameter names to values, in the order in which the system passes them. Values that the task does not
have, such as a reference answer, are missing; a function that requires them gets an error that names the column.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from rft.grading.answers import final_answer
from rft.grading.foreign.styles.records import ChatMessage, ModelOutput, Target, TaskState, Trace
from rft.types import Rollout, StopReason, Task

Payload = dict[str, Any]

TRL_NOT_COLUMNS = ("prompt", "completion", "completion_ids")
"""Columns that TRL does not pass to reward functions."""


@dataclass(frozen=True, slots=True)
class Graded:
    """The input of one call."""

    task: Task
    """The task."""
    completions: list[str]
    """`[G]` texts; one text if the style grades single completions."""
    rollouts: list[Rollout]
    """`[G]` rollouts; empty if the style does not use them."""

    @property
    def completion(self) -> str:
        """The only text."""
        return self.completions[0]

    @property
    def stop(self) -> StopReason:
        """The reason why the only completion ended."""
        return self.rollouts[0].stop


def plain(graded: Graded) -> Payload:
    """The text only."""
    return {"completion": graded.completion}


def trl(graded: Graded) -> Payload:
    """TRL, standard form: prompts and completions are texts."""
    prompts = [prompt_text(graded.task)] * len(graded.completions)
    return _trl_columns(graded) | {"prompts": prompts, "completions": list(graded.completions)}


def trl_chat(graded: Graded) -> Payload:
    """TRL, chat form: prompts and completions are lists of messages."""
    prompts = [messages(graded.task) for _ in graded.completions]
    return _trl_columns(graded) | {"prompts": prompts, "completions": [_reply(text) for text in graded.completions]}


def verl(graded: Graded) -> Payload:
    """Arguments of verl's `compute_score`. The reference is in verl's own column, or in `answer`."""
    item = graded.task.item
    rule = item.get("reward_model")
    payload = {
        "data_source": item.get("data_source", ""),
        "solution_str": graded.completion,
        "extra_info": item.get("extra_info", dict(item)),
    }
    if isinstance(rule, Mapping) and "ground_truth" in rule:
        return payload | {"ground_truth": rule["ground_truth"]}
    return payload | _first(item, "ground_truth")


def verl_pair(graded: Graded) -> Payload:
    """The two arguments that verl passes to the scorers of its `reward_score` folder."""
    payload = verl(graded)
    return {name: payload[name] for name in ("solution_str", "ground_truth") if name in payload}


def areal(graded: Graded) -> Payload:
    """AReaL's texts and token ids of one completion, under the name `completions`, and the columns."""
    (rollout,) = graded.rollouts
    ids = _token_ids(rollout)
    texts = {"prompt": prompt_text(graded.task), "completions": graded.completion}
    tokens = {} if ids is None else {"prompt_ids": list(rollout.prompt_ids), "completion_ids": ids}
    return {**graded.task.item, **texts, **tokens}


def verl_batch(graded: Graded) -> Payload:
    """The arguments of verl's batch form: the same with plural names."""
    rows = [verl(Graded(graded.task, [text], [])) for text in graded.completions]
    plural = {"data_source": "data_sources", "solution_str": "solution_strs", "extra_info": "extra_infos"}
    return {plural.get(name, f"{name}s"): [row[name] for row in rows] for name in rows[0]}


def openrlhf(graded: Graded) -> Payload:
    """OpenRLHF's `reward_func`; a query is a prompt and its response in one text."""
    prompt = prompt_text(graded.task)
    count = len(graded.completions)
    columns = {f"{name}s": [value] * count for name, value in _first(graded.task.item, "label").items()}
    return {"queries": [prompt + text for text in graded.completions], "prompts": [prompt] * count} | columns


def verifiers(graded: Graded) -> Payload:
    """The arguments of verifiers' rubric functions for one completion; prompt and completion are lists of messages."""
    item = graded.task.item
    named = {
        "prompt": messages(graded.task),
        "completion": _reply(graded.completion),
        "task": item.get("task", "default"),
        "info": item.get("info", {}),
    } | _first(item, "answer")
    return {**item, **named, "state": {**item, **named, "id": graded.task.id}}


def verifiers_group(graded: Graded) -> Payload:
    """The arguments of verifiers' rubric functions for a group: the same with plural names."""
    rows = [verifiers(Graded(graded.task, [text], [])) for text in graded.completions]
    names = [name for name in ("prompt", "completion", "answer", "state", "task", "info") if name in rows[0]]
    return {f"{name}s": [row[name] for row in rows] for name in names}


def verifiers_v1(graded: Graded) -> Payload:
    """The arguments of verifiers v1's rewards: the row as an object, and the trace."""
    row = SimpleNamespace(**{**graded.task.item, "id": graded.task.id, "prompt": prompt_text(graded.task)})
    conversation = [ChatMessage(message["role"], text_of(message)) for message in graded.task.messages]
    trace = Trace(
        id=f"{graded.task.id}/{graded.rollouts[0].index}",
        task=row,
        messages=[*conversation, ChatMessage("assistant", graded.completion)],
        is_truncated=graded.stop is StopReason.LENGTH,
    )
    return {"task": row, "trace": trace}


def eval_protocol(graded: Graded) -> Payload:
    """eval-protocol's `@reward_function`: the conversation up to the completion."""
    item = graded.task.item
    return {**item, "messages": messages(graded.task) + _reply(graded.completion)} | _first(
        item, "ground_truth", "answer"
    )


def aws_lambda(graded: Graded) -> Payload:
    """AWS's list of samples, with one sample. AWS documents two places for the references; both are filled."""
    return {"event": [aws_lambda_single(graded)["event"]], "context": None}


def aws_lambda_single(graded: Graded) -> Payload:
    """AWS's single sample."""
    item = graded.task.item
    metadata = item.get("metadata")
    references = _first(item, "reference_answer")
    event = {
        "id": graded.task.id,
        "messages": messages(graded.task) + _reply(final_answer(graded.completion)),
        "metadata": {**(metadata if isinstance(metadata, Mapping) else item), **references},
    }
    return {"event": event | references, "context": None}


def google(graded: Graded) -> Payload:
    """Google's `evaluate`: ProtoJSON with camelCase; references are texts."""
    item = graded.task.item
    references = item["references"] if isinstance(item.get("references"), Mapping) else item
    system = [text_of(message) for message in graded.task.messages if message["role"] in ("system", "developer")]
    example: Payload = {
        "contents": [
            {"role": "model" if message["role"] == "assistant" else "user", "parts": [{"text": text_of(message)}]}
            for message in graded.task.messages
            if message["role"] not in ("system", "developer")
        ],
        "references": {name: _as_text(value) for name, value in references.items()},
    }
    if system:
        example["systemInstruction"] = {"parts": [{"text": text} for text in system]}
    return {"example": example, "response": {"role": "model", "parts": [{"text": final_answer(graded.completion)}]}}


def predibase(graded: Graded) -> Payload:
    """Predibase's texts and the row."""
    row = {"prompt": prompt_text(graded.task), **graded.task.item}
    return {"prompt": row["prompt"], "completion": graded.completion, "example": row}


def inspect_ai(graded: Graded) -> Payload:
    """inspect_ai's state and target."""
    item = graded.task.item
    answers = list(_first(item, "target").values())
    accepted = answers[0] if answers and isinstance(answers[0], (list, tuple)) else answers
    target = Target([_as_text(answer) for answer in accepted])
    state = TaskState(
        sample_id=graded.task.id,
        input=[ChatMessage(message["role"], text_of(message)) for message in graded.task.messages],
        output=ModelOutput(graded.completion, "max_tokens" if graded.stop is StopReason.LENGTH else "stop"),
        target=target,
        metadata=dict(item),
        epoch=graded.rollouts[0].index + 1,
    )
    return {"state": state} | ({"target": target} if answers else {})


def reasoning_gym(graded: Graded) -> Payload:
    """reasoning-gym's answer, which is the content of the last `<answer>` if there is one, and the entry."""
    answer = final_answer(graded.completion)
    answer = answer.rpartition("<answer>")[2].partition("</answer>")[0].strip()
    entry = {"question": prompt_text(graded.task), "metadata": {}, **graded.task.item}
    return {"answer": answer, "entry": entry}


def openai(graded: Graded) -> Payload:
    """OpenAI's `grade`: the sample and the row."""
    from rft.grading.foreign.openai_spec.sample import sample_of_completion

    sample = sample_of_completion(graded.completion, stop=graded.stop)
    return {"sample": sample.as_dict(), "item": dict(graded.task.item)}


def messages(task: Task) -> list[dict[str, Any]]:
    """Return a task's prompt as copied dictionaries, which a function may change."""
    return [dict(message) for message in task.messages]


def prompt_text(task: Task) -> str:
    """Return a task's prompt as one text: the messages' contents, separated by empty lines."""
    return "\n\n".join(text_of(message) for message in task.messages)


def text_of(message: Mapping[str, Any]) -> str:
    """Return a message's text; for content in blocks, the text of the text blocks."""
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content if isinstance(block, Mapping))


def _reply(text: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": text}]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _first(item: Mapping[str, Any], name: str, otherwise: str = "answer") -> dict[str, Any]:
    """Return a column, or the other column under the same name; empty if the task has neither."""
    return next(({name: item[column]} for column in (name, otherwise) if column in item), {})


def _trl_columns(graded: Graded) -> Payload:
    count = len(graded.completions)
    columns = {name: [value] * count for name, value in graded.task.item.items() if name not in TRL_NOT_COLUMNS}
    ids = [_token_ids(rollout) for rollout in graded.rollouts]
    return columns | {
        **({} if None in ids else {"completion_ids": ids}),
        "trainer_state": None,
        "log_extra": _ignore,
        "log_metric": _ignore,
    }


def _token_ids(rollout: Rollout) -> list[int] | None:
    """Return a completion's token ids; None for a recorded completion without tokens."""
    return list(rollout.completion_ids) if rollout.completion_ids or not rollout.text else None


def _ignore(*_: Any, **__: Any) -> None:
    """Ignore the values that TRL would log."""
