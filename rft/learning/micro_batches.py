"""Divides the completions of a step into micro-batches with little padding.

TRL pads all completions of a step to the longest and divides them into equal parts. rft sorts the completions by
length, fills each micro-batch up to the same number of padded tokens, and trims it to its own longest prompt and
completion. The sum over the completions of a step is the same, and so is the gradient.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_PROMPTS = ("prompt_ids", "prompt_mask")
"""`[N, P]` matrices, padded on the left. Matrices as wide as the completions are padded on the right."""


def plan(
    prompt_lengths: Sequence[int],
    completion_lengths: Sequence[int],
    rows: Sequence[int],
    *,
    size: int,
    ranks: int = 1,
) -> list[list[int]]:
    """Put completions into micro-batches by their number of tokens.

    Args:
        prompt_lengths: `[N]` tokens of each prompt.
        completion_lengths: `[N]` tokens of each completion.
        rows: The completions to place.
        size: Completions of the longest prompt and completion length in a full micro-batch. Their padded tokens are
            the limit of every micro-batch.
        ranks: Number of ranks. The largest micro-batches are halved until each rank can get the same number, so that no
            rank waits for another.

    Returns:
        The rows of each micro-batch, the longest completions first. For one rank there are at most
        `ceil(len(rows) / size)` micro-batches.
    """
    if not rows:
        return []
    budget = size * (max(prompt_lengths[row] for row in rows) + max(completion_lengths[row] for row in rows))
    micro_batches: list[list[int]] = []
    prompt = completion = 0
    for row in sorted(rows, key=lambda row: (-completion_lengths[row], -prompt_lengths[row], row)):
        prompt, completion = max(prompt, prompt_lengths[row]), max(completion, completion_lengths[row])
        if not micro_batches or (len(micro_batches[-1]) + 1) * (prompt + completion) > budget:
            micro_batches.append([])
            prompt, completion = prompt_lengths[row], completion_lengths[row]
        micro_batches[-1].append(row)
    total = min(len(rows), -(-len(micro_batches) // ranks) * ranks)
    while len(micro_batches) < total:
        sizes = [_padded(each, prompt_lengths, completion_lengths) if len(each) > 1 else 0 for each in micro_batches]
        largest = sizes.index(max(sizes))
        half = (len(micro_batches[largest]) + 1) // 2
        micro_batches[largest : largest + 1] = [micro_batches[largest][:half], micro_batches[largest][half:]]
    return micro_batches


def share(
    micro_batches: Sequence[list[int]], prompt_lengths: Sequence[int], completion_lengths: Sequence[int], *, ranks: int
) -> list[list[list[int]]]:
    """Distribute micro-batches among ranks: the largest first, each to the rank with the fewest tokens.

    Args:
        micro_batches: The rows of each micro-batch, from `plan`.
        prompt_lengths: `[N]` tokens of each prompt.
        completion_lengths: `[N]` tokens of each completion.
        ranks: Number of ranks.

    Returns:
        The micro-batches of each rank, in their original order.
    """
    sizes = [_padded(rows, prompt_lengths, completion_lengths) for rows in micro_batches]
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [0] * ranks
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        rank = loads.index(min(loads))
        loads[rank] += sizes[number]
        shares[rank].append(number)
    return [[micro_batches[number] for number in sorted(own)] for own in shares]


def _padded(rows: Sequence[int], prompt_lengths: Sequence[int], completion_lengths: Sequence[int]) -> int:
    """Return the tokens of a micro-batch, including its padding."""
    return len(rows) * (max(prompt_lengths[row] for row in rows) + max(completion_lengths[row] for row in rows))


def take(batch: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Return some rows of a batch, trimmed to their own longest prompt and completion.

    Args:
        batch: TRL's tensors by name: `[N, P]` and `[N, C]` matrices, `[N]` and `[N, 1]` columns, and scalars. The masks
            `prompt_mask` and `completion_mask` are 0 for padding.
        rows: Indices of the rows.
    """
    index = torch.tensor(rows, device=batch["prompt_ids"].device)
    prompt = max(1, int(batch["prompt_mask"][index].sum(1).max()))
    completion = max(1, int(batch["completion_mask"][index].sum(1).max()))
    width = batch["completion_ids"].shape[1]
    taken: dict[str, Any] = {}
    for name, values in batch.items():
        if not isinstance(values, torch.Tensor) or values.ndim == 0:
            taken[name] = values
        elif name in _PROMPTS:
            taken[name] = values[index, values.shape[1] - prompt :]
        elif values.ndim > 1 and values.shape[1] == width:
            taken[name] = values[index, :completion]
        else:
            taken[name] = values[index]
    return taken


def trained_mask(batch: Mapping[str, Any]) -> Any:
    """Return `[N, C]` 1 for the tokens that the loss counts.

    Args:
        batch: TRL's tensors. `completion_mask` is 0 for padding and for excluded completions; `tool_mask`, of episodes
            alone, is 0 for tokens that the policy did not sample.
    """
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask
