"""Rollouts as JSON values for the page: one line of the list, and one with everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rft.evidence.viewer.token_pieces import TokenPieces
from rft.run_folder.recorded_tokens import tokens_of

PREVIEW = 240
"""Characters of a completion in the list."""


def listed(line: Mapping[str, Any], row: int) -> dict[str, Any]:
    """Return a rollout as a line of the list.

    Args:
        line: Line of rollouts.jsonl.
        row: Its row.
    """
    scores = line.get("scores") or {}
    return {
        "row": row,
        "step": line.get("step"),
        "phase": line.get("phase"),
        "task": line.get("task_id"),
        "sample": line.get("index"),
        "reward": line.get("reward"),
        "tokens": line.get("num_completion_tokens"),
        "stop": line.get("stop"),
        "turns": len(line.get("turns") or ()),
        "status": next((score["status"] for score in scores.values() if score.get("value") is None), ""),
        "preview": str(line.get("completion", ""))[:PREVIEW],
    }


def whole(line: Mapping[str, Any], row: int, pieces: TokenPieces | None) -> dict[str, Any]:
    """Return a rollout with everything that the page shows.

    Args:
        line: Line of rollouts.jsonl.
        row: Its row.
        pieces: Splits completions into tokens; None leaves tokens out.
    """
    scores = {
        name: {key: score.get(key) for key in ("value", "status", "reason", "answer", "seconds")}
        for name, score in (line.get("scores") or {}).items()
    }
    return {
        **listed(line, row),
        "completion": line.get("completion"),
        "policy": (line.get("policy") or {}).get("version"),
        "messages": line.get("messages") or [],
        "item": line.get("item") or {},
        "scores": scores,
        "turn_list": line.get("turns") or [],
        **({} if pieces is None else _tokens(line, pieces)),
    }


def _tokens(line: Mapping[str, Any], pieces: TokenPieces) -> dict[str, Any]:
    """Return `pieces`: texts and log-probabilities of the tokens; or `has_no_tokens`: why there are none."""
    recorded = tokens_of(line)
    if recorded is None:
        return {"has_no_tokens": "no token log-probabilities: the run recorded none for this completion"}
    texts = pieces.of(recorded.ids)
    if texts is None:
        return {"has_no_tokens": "no token log-probabilities: the tokenizer of the run is not on this machine"}
    return {
        "pieces": {
            "texts": texts,
            "logprobs": _rounded(recorded.logprobs),
            "teacher": _rounded(recorded.teacher_logprobs),
            "start": _rounded(recorded.start_logprobs),
        }
    }


def _rounded(logprobs: Sequence[float] | None) -> list[float] | None:
    return None if logprobs is None else [round(value, 3) for value in logprobs]
