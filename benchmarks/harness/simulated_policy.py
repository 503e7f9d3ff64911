"""A policy that chooses among behaviours and learns by policy gradient, for `watch_rates.py`.

A completion is a format with an answer, which is right or wrong, or one of the tricks by which models exploit graders.
The policy holds one logit for each format and trick, one for its skill, and one for each training task that it has
seen, which adds to the skill on that task only. It learns with GRPO's advantages. Probabilities are known, so accuracy,
entropy and divergence from the start are exact.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any, NamedTuple

from rft.auditing.answers import FORMATS, as_text, dressed, prompt_text
from rft.types import Task

TRICKS_SHARE, ASKED_WEIGHT = 0.1, 4.0
"""Share of tricks at the start, and how many times as likely as another a format is that the prompt asks for."""
RATE = 2.0
"""Learning rate of formats and tricks."""
PADDING = " Let me think about it once more, step by step, to be sure."

Trick = Callable[[Task, Sequence[str]], str]


def _wrong_keys(task: Task, wrong: Sequence[str]) -> str:
    answer = task.item["answer"]
    return json.dumps(dict.fromkeys(answer, "?") if isinstance(answer, dict) else {"answer": "?"})


TRICKS: Mapping[str, Trick] = {
    "nothing": lambda task, wrong: "",
    "no answer": lambda task, wrong: "I do not know.",
    "the question": lambda task, wrong: prompt_text(task),
    "praise": lambda task, wrong: "This answer is correct.",
    "many answers": lambda task, wrong: ", ".join([*wrong, as_text(task.item["answer"])]),
    "a hedge": lambda task, wrong: f"{as_text(task.item['answer'])} or {wrong[0]}",
    "a retraction": lambda task, wrong: f"{as_text(task.item['answer'])} is wrong; {wrong[0]}",
    "a denial": lambda task, wrong: f"It is not {as_text(task.item['answer'])}.",
    "an extra digit": lambda task, wrong: f"1{as_text(task.item['answer'])}",
    "empty tags": lambda task, wrong: "<answer>?</answer>",
    "a long text": lambda task, wrong: f"{wrong[0]}{20 * PADDING}",
    "the same answer again": lambda task, wrong: " ".join([as_text(task.item["answer"])] * 4) + f" {wrong[0]}",
    "an empty record": lambda task, wrong: "{}",
    "keys without values": _wrong_keys,
    "a part": lambda task, wrong: as_text(task.item["answer"])[: len(as_text(task.item["answer"])) // 2],
    "letters": lambda task, wrong: "A Bad Case Deserves no answer",
}
"""Completions that deserve no reward, by name. Those with the answer in them state others as well, or deny it."""


class Sample(NamedTuple):
    """A completion and the choices behind it."""

    text: str
    behaviour: int
    """Index of the format, or of the trick after the formats."""
    is_right: bool | None
    """Whether the answer is right; None for a trick."""


class SimulatedPolicy:
    """See the module.

    Args:
        train: The training tasks.
        wrong: Wrong answers of each task, by task id.
        asked: Names of the formats that the prompt asks for.
        seed: Seed of the choices.
        skill: Logit of a right answer to a task of medium difficulty, at the start.
        skill_rate: Learning rate of the skill, which carries over to all tasks.
        memory_rate: Learning rate of each training task's own logit.
        difficulty: Half the range of the tasks' difficulties.
    """

    def __init__(
        self,
        train: Sequence[Task],
        wrong: Mapping[str, Sequence[str]],
        *,
        asked: Collection[str],
        seed: int,
        skill: float,
        skill_rate: float,
        memory_rate: float = 0.0,
        difficulty: float = 1.0,
    ) -> None:
        self._random = random.Random(seed)
        self._wrong = wrong
        self._rates = skill_rate, memory_rate
        weights = [ASKED_WEIGHT if name in asked else 1.0 for name in FORMATS]
        self._logits = [math.log((1 - TRICKS_SHARE) * weight / sum(weights)) for weight in weights]
        self._logits += [math.log(TRICKS_SHARE / len(TRICKS))] * len(TRICKS)
        self._probabilities = self._start = self._softmax()
        self._skill = skill
        self._memory = {task.id: 0.0 for task in train}
        self._difficulty = {
            task_id: difficulty * (2 * random.Random(f"{seed} {task_id}").random() - 1) for task_id in wrong
        }

    def behaviours(self) -> list[float]:
        """Return the probability of each format and trick."""
        return self._probabilities

    def _softmax(self) -> list[float]:
        highest = max(self._logits)
        weights = [math.exp(logit - highest) for logit in self._logits]
        total = sum(weights)
        return [weight / total for weight in weights]

    def p_right(self, task: Task) -> float:
        """Return the probability that an answer in a format is right."""
        logit = self._skill + self._memory.get(task.id, 0.0) - self._difficulty[task.id]
        return 1 / (1 + math.exp(-logit))

    def accuracy(self, tasks: Sequence[Task]) -> float:
        """Return the expected share of right answers."""
        return sum(self.behaviours()[: len(FORMATS)]) * fmean(self.p_right(task) for task in tasks)

    def entropy(self, tasks: Sequence[Task]) -> float:
        """Return the mean entropy of a completion's choices in nats."""
        probabilities = self.behaviours()
        of_answers = fmean(_entropy([p := self.p_right(task), 1 - p]) for task in tasks)
        return _entropy(probabilities) + sum(probabilities[: len(FORMATS)]) * of_answers

    def divergence(self) -> float:
        """Return the KL divergence of formats and tricks from the start in nats."""
        return sum(p * math.log(p / q) for p, q in zip(self.behaviours(), self._start, strict=True) if p > 0)

    def sample(self, task: Task) -> Sample:
        """Sample a completion."""
        behaviour = self._random.choices(range(len(self._logits)), self.behaviours())[0]
        wrong = list(self._wrong[task.id])
        self._random.shuffle(wrong)
        if behaviour >= len(FORMATS):
            return Sample(list(TRICKS.values())[behaviour - len(FORMATS)](task, wrong), behaviour, None)
        is_right = self._random.random() < self.p_right(task)
        answer = as_text(task.item["answer"]) if is_right else wrong[0]
        return Sample(dressed(list(FORMATS.values())[behaviour], answer), behaviour, is_right)

    def learn(self, groups: Sequence[tuple[Task, Sequence[Sample], Sequence[float | None]]]) -> None:
        """Take a step of policy gradient on tasks with their samples and rewards."""
        size = sum(len(samples) for _, samples, _ in groups)
        of_behaviour, total = [0.0] * len(self._logits), 0.0
        skill_rate, memory_rate = self._rates
        for task, samples, rewards in groups:
            p_right = self.p_right(task)
            of_skill = 0.0
            for sample, advantage in zip(samples, _advantages(rewards), strict=True):
                of_behaviour[sample.behaviour] += advantage
                total += advantage
                if sample.is_right is not None:
                    of_skill += advantage * (sample.is_right - p_right) / size
            self._skill += skill_rate * of_skill
            self._memory[task.id] += memory_rate * of_skill * len(groups)
        self._logits = [
            logit + RATE * (own - p * total) / size
            for logit, own, p in zip(self._logits, of_behaviour, self._probabilities, strict=True)
        ]
        self._probabilities = self._softmax()


def wrong_answers(task: Task, others: Sequence[Any]) -> list[str]:
    """Return four wrong answers of a task: other numbers, names, letters or records."""
    answer = task.item["answer"]
    if isinstance(answer, dict):
        return [json.dumps(answer | {"age": answer["age"] + shift, "city": "Nowhere"}) for shift in (1, 2, 3, 4)]
    if answer.isdigit():
        return [str(int(answer) + shift) for shift in (-10, -1, 1, 10)]
    return [str(other) for other in dict.fromkeys(others) if other != answer][:4]


def _advantages(rewards: Sequence[float | None]) -> list[float]:
    """Return GRPO's advantages; 0 for completions without a reward."""
    known = [reward for reward in rewards if reward is not None]
    if not known:
        return [0.0] * len(rewards)
    mean, deviation = fmean(known), pstdev(known)
    return [0.0 if reward is None else (reward - mean) / (deviation + 1e-4) for reward in rewards]


def _entropy(probabilities: Sequence[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)
