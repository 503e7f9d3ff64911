"""`independent` of summary.json in words, for the final report and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rft.metrics.intervals import Estimate

LABELS = {"before": "before", "after": "after", "difference": "after - before"}


def independent_in_words(independent: Mapping[str, Any]) -> str:
    """Return what the grader that does not enter the reward says of the held-out tasks, in one sentence.

    Args:
        independent: `independent` of summary.json.
    """
    known = {key: Estimate.from_json(independent[key]) for key in LABELS if independent[key]}
    texts = [f"{LABELS[key]} {value.text(signed=key == 'difference')}" for key, value in known.items()]
    return f"independent grader '{independent['grader']}': {', '.join(texts) or 'no held-out measurement'}"
