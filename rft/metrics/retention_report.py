"""`retention` of summary.json in words, for the final report, the model card and warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rft.metrics.intervals import Estimate

MEANS = {"backward_transfer": "backward transfer", "forgetting": "forgetting"}


def guard_warnings(retained: Mapping[str, Any] | None) -> list[str]:
    """Return one warning for each family that dropped by more than `evaluation.guard` allows.

    Args:
        retained: `retention` of summary.json; None without a mixture.
    """
    return [
        f"evaluation.guard.{name}={guard['max_drop']:g}: the score of the family is "
        f"{Estimate.from_json(guard['drop']).text()} lower after the run than before, over {guard['drop']['n']} tasks"
        for name, guard in (retained or {}).get("guard", {}).items()
        if guard["is_exceeded"]
    ]


def retention_header(retained: Mapping[str, Any]) -> list[str]:
    """Return the header of `retention_rows`."""
    return ["family", "trained in", *retained["stages"], *MEANS.values()]


def retention_rows(retained: Mapping[str, Any]) -> list[list[str]]:
    """Return one row of texts for each family: its score after each stage, backward transfer and forgetting."""
    return [
        [
            name,
            family["trained_in"] or "-",
            *("-" if score is None else f"{score:.3f}" for score in family["scores"]),
            *(_text(family[key]) for key in MEANS),
        ]
        for name, family in retained["families"].items()
    ]


def retention_notes(retained: Mapping[str, Any]) -> list[str]:
    """Return sentences: the means over families, the guard, and the measurements that are left out."""
    notes = []
    for key, label in MEANS.items():
        if retained[key]:
            number = sum(family[key] is not None for family in retained["families"].values())
            over = "1 family" if number == 1 else f"{number} families"
            notes.append(f"{label}: {_text(retained[key])}, mean over {over} that this run was not the first to train")
    return [*notes, *guard_notes(retained["guard"]), *(f"left out: {sentence}" for sentence in retained["left_out"])]


def guard_notes(verdicts: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each family of `evaluation.guard`: whether its limit was kept.

    Args:
        verdicts: `guard` of `retention` in summary.json.
    """
    return [
        f"guard of {name}: {'exceeded' if own['is_exceeded'] else 'kept'}; drop {_text(own['drop'])}, "
        f"at most {own['max_drop']:g} allowed"
        for name, own in verdicts.items()
    ]


def _text(estimate: Mapping[str, Any] | None) -> str:
    return Estimate.from_json(estimate).text(signed=True) if estimate else "-"
