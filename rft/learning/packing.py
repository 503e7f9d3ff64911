"""Packs rows of tokens into one row without padding, and proves that a model keeps them apart.

Without cache and attention mask, Transformers 5.19 lets a token attend only to tokens since the last position 0. This
holds for models whose attention goes through `create_causal_mask` with positions (Llama, Qwen3, Gemma 3, GPT-2 and
others), but not for OPT and BLOOM, or for a recurrent state, which runs on from row to row. Nothing fails then, so
`check_packing` measures the effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rft.data.demonstration_records import TokenRow
from rft.errors import LearnError

TOLERANCES = {"float32": 1e-4, "float16": 0.02, "bfloat16": 0.05}
"""Largest mean |difference of log-probabilities| that counts as rounding, by dtype. A leak shifts them by 0.1 to 10."""
NOT_TRAINED = -100
"""Label of a token without a loss."""


def packed(rows: Sequence[TokenRow]) -> dict[str, Tensor]:
    """Return `[1, T]` ids, positions and labels of rows that follow each other; the positions of each begin at 0."""
    ids = torch.tensor([token for row in rows for token in row.ids])
    positions = torch.cat([torch.arange(len(row.ids)) for row in rows])
    # The last token of a row does not predict the first token of the next one.
    trained = torch.tensor([is_trained for row in rows for is_trained in (False, *row.trained[1:])])
    labels = torch.where(trained, ids, NOT_TRAINED)
    return {"input_ids": ids[None], "position_ids": positions[None], "labels": labels[None]}


def check_packing(model: Any, sequences: Sequence[Sequence[int]], *, dtype: str) -> None:
    """Prove that packing changes no log-probability of a model beyond rounding.

    Args:
        model: A causal language model, with or without an adapter. Keeps its mode (train, eval).
        sequences: `[N][L]` token ids, at least 2 in each sequence. The first one follows again after the others.
        dtype: Key of `TOLERANCES`.

    Raises:
        LearnError: It does, or the model takes no positions.
    """
    try:
        gap = packing_gap(model, [*sequences, sequences[0]])
        reason = f"packed rows change log-probabilities by {gap:.2g} on average (allowed: {TOLERANCES[dtype]:g})"
    except TypeError as error:
        gap, reason = float("inf"), f"the model takes no positions ({error})"
    if not gap <= TOLERANCES[dtype]:  # NaN is refused, too
        raise LearnError(
            f"learner.packing=true: {reason}, so this model ({model.config.model_type}) does not keep packed rows "
            "apart; use learner.packing=false"
        )


@torch.no_grad()
def packing_gap(model: Any, sequences: Sequence[Sequence[int]]) -> float:
    """Return the mean |difference| of the tokens' log-probabilities between packed sequences and each one alone.

    Raises:
        TypeError: The model takes no positions.
    """
    was_training = model.training
    model.eval()
    try:
        alone = torch.cat([_logprobs(model, [ids]) for ids in sequences])
        together = _logprobs(model, sequences)
    finally:
        model.train(was_training)
    return float((together - alone).abs().mean())


def _logprobs(model: Any, sequences: Sequence[Sequence[int]]) -> Tensor:
    """Return the log-probabilities of all tokens of packed sequences but the first of each."""
    rows = [TokenRow(ids=tuple(ids), trained=(True,) * len(ids)) for ids in sequences]
    ids, positions, labels = (tensor.to(model.device) for tensor in packed(rows).values())
    logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0, :-1]
    scores = torch.log_softmax(logits.float(), dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    return scores[labels[0, 1:] != NOT_TRAINED]
