"""Tasks, rollouts, and graders in files, as worker processes load them."""

import asyncio
import dataclasses
import sys

import pytest

from rft.grading import Task, load_grader
from rft.grading.panel import Panel
from rft.grading.sandbox.zygote import end_process_zygote
from rft.types import Policy, Rollout, StopReason


def make_task(name="a", **item):
    return Task(id=name, messages=({"role": "user", "content": "?"},), item=item, split="train")


def make_rollouts(texts, name="a"):
    """The rollouts of one group, each with three tokens more than its index."""
    return [
        Rollout(
            task_id=name,
            index=index,
            prompt_ids=(1,),
            completion_ids=(2,) * (index + 3),
            logprobs=(-0.5,) * (index + 3),
            text=text,
            stop=StopReason.LENGTH,
            policy=Policy(version=3, fingerprint="f"),
        )
        for index, text in enumerate(texts)
    ]


class Bench:
    """Grades completions of one task with a panel of graders that a file holds."""

    def __init__(self, folder):
        self.folder = folder
        self.in_process = False
        """Whether graders run in this process, which saves the start of workers."""

    def file(self, source, name="mine.py"):
        (self.folder / name).write_text(source)

    def spec(self, use, **others):
        return {"use": f"mine.py:{use}", "timeout_s": 20.0, **others}

    def panel(self, specs, **options):
        graders = [load_grader(name, spec) for name, spec in specs.items()]
        graders = [dataclasses.replace(one, in_process=one.in_process or self.in_process) for one in graders]
        return Panel(graders, **{"num_workers": 2, "max_fault_share": 1.0} | options)

    def grade(self, specs, texts, *, task=None, panel=None, **options):
        """Return the scores of each grader, one a completion, and the panel, closed."""
        panel = panel or self.panel(specs, **options)
        groups = asyncio.run(self._closed(panel, task or make_task(), texts))
        return {name: [grade.scores[name] for grade in groups[0].grades] for name in specs}, panel

    async def _closed(self, panel, task, texts):
        try:
            return await self.graded(panel, task, texts)
        finally:
            panel.close()

    async def graded(self, panel, task, texts):
        return await panel.grade([task], stream(make_rollouts(texts, task.id)), rollouts_per_task=len(texts))


async def stream(rollouts):
    for rollout in rollouts:
        yield rollout


@pytest.fixture
def bench(tmp_path, monkeypatch, no_ray):
    """A folder for graders as the working directory, in a process without children."""
    end_process_zygote()  # an earlier test may have run programs
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return Bench(tmp_path)
