"""Which completions go through the model together, and how little of them is padding.

TRL pads a whole step's completions to the longest and cuts the result into equal parts. Here the completions are sorted
by length, each part is filled up to the same number of padded tokens, and each is trimmed to its own longest prompt and
completion. The sum over a step's completions is the same, so the gradient is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_PROMPTS = ("prompt_ids", "prompt_mask")
"""`[N, P]`, padded on the left; every other matrix as wide as the completions is padded on the right."""


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
        size: Completions in a micro-batch if all were as long as the longest prompt and the longest completion: the
            padded tokens of one such micro-batch are the limit of every micro-batch.
        ranks: Among how many the micro-batches are to be shared. The largest ones are halved until there are as many
            for each, so that none waits for what another has more.

    Returns:
        The rows of each micro-batch, the longest completions first; for one rank never more than
        `ceil(len(rows) / size)`.
    """
    if not rows:
        return []
    budget = size * (max(prompt_lengths[row] for row in rows) + max(completion_lengths[row] for row in rows))
    found: list[list[int]] = []
    prompt = completion = 0
    for row in sorted(rows, key=lambda row: (-completion_lengths[row], -prompt_lengths[row], row)):
        prompt, completion = max(prompt, prompt_lengths[row]), max(completion, completion_lengths[row])
        if not found or (len(found[-1]) + 1) * (prompt + completion) > budget:
            found.append([])
            prompt, completion = prompt_lengths[row], completion_lengths[row]
        found[-1].append(row)
    wanted = min(len(rows), -(-len(found) // ranks) * ranks)
    while len(found) < wanted:
        sizes = [_padded(some, prompt_lengths, completion_lengths) if len(some) > 1 else 0 for some in found]
        largest = sizes.index(max(sizes))
        half = (len(found[largest]) + 1) // 2
        found[largest : largest + 1] = [found[largest][:half], found[largest][half:]]
    return found


def share(
    micro_batches: Sequence[list[int]], prompt_lengths: Sequence[int], completion_lengths: Sequence[int], *, ranks: int
) -> list[list[list[int]]]:
    """Share micro-batches out among ranks: the largest first, each to the rank that has the fewest tokens so far.

    Args:
        micro_batches: The rows of each, from `plan`.
        prompt_lengths: `[N]` tokens of each prompt.
        completion_lengths: `[N]` tokens of each completion.
        ranks: How many share.

    Returns:
        The micro-batches of each rank, in the order in which they came.
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
    """Tokens of a micro-batch, its padding included."""
    return len(rows) * (max(prompt_lengths[row] for row in rows) + max(completion_lengths[row] for row in rows))


def take(batch: Mapping[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    """Some rows of a batch, trimmed to their own longest prompt and completion.

    Args:
        batch: TRL's tensors by name: `[N, P]` and `[N, C]` matrices, `[N]` and `[N, 1]` columns, and scalars. The masks
            `prompt_mask` and `completion_mask` say where the padding is.
        rows: Which rows.
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
