"""As in eval-protocol's documents; the result is a stand-in with the real one's attributes."""

from dataclasses import dataclass


@dataclass
class EvaluateResult:
    score: float
    is_score_valid: bool = True
    reason: str | None = None
    error: str | None = None


def exact_match_reward(messages, ground_truth=None, **kwargs):
    if ground_truth == "broken":
        return EvaluateResult(score=0.0, is_score_valid=False, error="the judge is down")
    if ground_truth is None:
        return EvaluateResult(score=0.0, is_score_valid=False, reason="no reference")
    matches = messages[-1]["content"] == ground_truth
    return EvaluateResult(score=1.0 if matches else 0.0, reason="exact match" if matches else "no match")
