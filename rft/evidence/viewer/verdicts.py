"""The verdicts on a run that its files hold, each as a sentence with its tone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rft.metrics.intervals import Estimate
from rft.terminal.final_report import verdict

GOOD, BAD, NEUTRAL = "good", "bad", "neutral"


def verdicts(
    summary: Mapping[str, Any], manifest: Mapping[str, Any], proofs: Mapping[str, int]
) -> list[dict[str, str]]:
    """Return `about`, `text` and `tone` (`good`, `bad` or `neutral`) of each verdict.

    Args:
        summary: Content of summary.json; empty without it.
        manifest: Content of manifest.json; empty without it.
        proofs: Numbers of `syncs` and `syncs_proved`.
    """
    found = [*_held_out(summary), *_proofs(proofs), *_fit(summary), *_before_the_run(manifest), *_kept(summary)]
    return [{"about": about, "text": text, "tone": tone} for about, text, tone in found]


def _held_out(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    difference = (summary.get("eval") or {}).get("difference")
    if difference:
        text = verdict(Estimate.from_json(difference))
        tone = {"better": GOOD, "worse": BAD}.get(text.partition(":")[0], NEUTRAL)
        yield "held-out tasks", text, tone


def _proofs(proofs: Mapping[str, int]) -> Iterator[tuple[str, str, str]]:
    syncs, proved = proofs["syncs"], proofs["syncs_proved"]
    if syncs:
        text = f"{proved:,} of {syncs:,} proved by every sampler"
        yield "policy syncs", text, GOOD if syncs == proved else BAD


def _fit(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    if fit := summary.get("fit"):
        yield "fit", str(fit["text"]), BAD if fit["verdict"] in ("overfit", "worse") else NEUTRAL


def _before_the_run(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    audit = (manifest.get("audit") or {}).get("graders")
    if isinstance(audit, str):
        yield "audit of the graders", audit, NEUTRAL
    elif isinstance(audit, Mapping):
        for name, text in audit.items():
            yield f"audit of {name}", str(text), NEUTRAL
    feasibility = manifest.get("feasibility")
    if isinstance(feasibility, Mapping) and "verdict" in feasibility:
        text = str(feasibility["verdict"])
        yield "feasibility", text, {"go": GOOD, "no-go": BAD}.get(text, NEUTRAL)


def _kept(summary: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    drops = summary.get("drops")
    if drops is not None and summary.get("syncs"):
        lost = sum(drops.values())
        yield "rewards", f"{lost:,} completions without one" if lost else "every completion has one", NEUTRAL
