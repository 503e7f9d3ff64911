"""Text similarity: the similarity of the final answer and a text in a column of the task.

graders:
  close:
    use: text_similarity
    metric: rouge_l
    column: summary

The metrics and their settings are those of OpenAI's grader of this name
(`rft.grading.foreign.openai_spec.text_similarity`), except for `cosine`, which needs a model: use the grader
`embedding`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

from rft.grading import Score, Status, Task, final_answer, reference
from rft.grading.foreign.openai_spec.text_similarity import MAX_CHARS, MAX_METEOR_WORDS, METRICS

Metric = Literal[
    "fuzzy_match", "bleu", "gleu", "meteor", "rouge_1", "rouge_2", "rouge_3", "rouge_4", "rouge_5", "rouge_l"
]


@dataclass(frozen=True, kw_only=True)
class TextSimilarity:
    """Scores the similarity, 0 to 1; a similarity below `zero_below` scores 0.

    Any two texts are slightly similar, and a model that is paid for slight similarity learns to write texts that
    resemble every reference. Similar words may have opposite meanings: "it is not Paris" resembles "it is Paris". A
    task with an empty column is skipped.
    """

    deterministic: ClassVar[bool] = True

    metric: Metric
    """The metric: of letters (fuzzy_match), or of consecutive words (the others)."""
    column: str = "answer"
    """The task's column with the reference."""
    zero_below: float = 0.5
    """Minimum similarity that scores. 0.5 suits short answers; good summaries have a ROUGE or BLEU of 0.2 to 0.4."""

    def __post_init__(self) -> None:
        if not 0 <= self.zero_below <= 1:
            raise ValueError(f"zero_below={self.zero_below} must be from 0 to 1")

    def warm_up(self) -> None:
        """Import the metric's library."""
        METRICS[self.metric]("a b", "a b")

    def grade(self, completion: str, task: Task) -> Score | None:
        """Compare the answer with the reference."""
        given = reference(task, self.column)
        if given is None:
            return None
        expected, answer = str(given).strip(), final_answer(completion)
        if not expected or _is_too_long(expected, self.metric):
            raise ValueError(f"the reference of task {task.id} is empty, or too long to compare with")
        if not answer:
            return Score(value=0.0, status=Status.NO_ANSWER)
        if _is_too_long(answer, self.metric):
            return Score(value=0.0, status=Status.INVALID_OUTPUT, reason="too long to compare")
        similarity = 1.0 if answer == expected else min(1.0, max(0.0, METRICS[self.metric](answer, expected)))
        return Score(
            value=similarity if similarity >= self.zero_below else 0.0,
            answer=answer[:200],
            reason=f"similarity {similarity:.3f}",
        )


def _is_too_long(text: str, metric: Metric) -> bool:
    if metric == "meteor" and len(re.findall(r"\w+|[^\w\s]", text)) > MAX_METEOR_WORDS:
        return True
    return len(text) > MAX_CHARS
