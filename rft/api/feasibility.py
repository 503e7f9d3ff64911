"""`rft.feasibility`: samples training tasks before a run, and says whether the run is worth starting."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from rft.api.calls import configuration, make_console
from rft.cluster import ray_ahead_for, refuse_early
from rft.cluster.versions import require_packages_here
from rft.config import RunConfig
from rft.config.commands import load_feasibility
from rft.config.epochs import with_steps
from rft.config.overrides import Overrides, to_words
from rft.errors import OutputError
from rft.evidence.feasibility_verdict import NO_GO
from rft.run.base_models.merged_start import with_merged_start
from rft.run.base_models.quantized_base import with_quantized_base
from rft.run.check import plan_training
from rft.run.forecast.plan import Plan
from rft.run.inputs.prepare import Prepared, read_inputs, render_prompts
from rft.run.open_folder import open_recorder
from rft.run_folder.recorder import FEASIBILITY, Recorder, write_json
from rft.run_folder.token_shards import remove_shards
from rft.terminal.event_loop import run_to_end
from rft.terminal.progress import Progress, counted
from rft.wording import plural


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Feasibility:
    """The verdict on a run that has not started.

    Example:
        Feasibility(folder=Path("runs/quickstart/feasibility_..."), report={"verdict": "go", "text": "...", ...})
    """

    folder: Path
    """Holds feasibility.json, rollouts.jsonl with the samples, config.yaml and manifest.json."""
    report: Mapping[str, Any]
    """The content of feasibility.json. docs/evidence.md describes it."""

    @property
    def verdict(self) -> str:
        """`go`, `go with changes` or `no-go`."""
        return str(self.report["verdict"])

    @property
    def is_worth_starting(self) -> bool:
        """Whether the verdict is not no-go."""
        return self.verdict != NO_GO

    def __repr__(self) -> str:
        return f"<rft.Feasibility {self.folder}: {self.report['text']}>"


def feasibility(*overrides: Overrides, quiet: bool = False) -> Feasibility:
    """Sample training tasks with the policy that a run starts from, and judge the run, as `rft feasibility` does.

    Args:
        overrides: Those of the run, as for `rft.train`.
        quiet: Print nothing; otherwise the progress is shown.

    Raises:
        ConfigError: With every problem of the configuration.
        InstallError: A package is missing that an extra of rft installs.
        UsageError: With everything that is wrong with the model, the tasks, the graders and the folder.
        RftError: A part failed, or no completion could be graded.

    Example:
        judged = rft.feasibility("experiment=quickstart", "loop.completions_per_prompt=16")
        judged.verdict, judged.report["informative"]["share"]
    """
    run = configuration(load_feasibility, overrides)
    return judge(run, command=["rft.feasibility", *to_words(overrides)], console=make_console(quiet=quiet))


def plan_feasibility(run: RunConfig, console: Console) -> Plan:
    """Check the run in question without starting anything; return its plan and the samples that would be taken.

    Raises:
        UsageError: With everything that is wrong.
    """
    _refuse_file(run)
    plan = plan_training(run, console)
    each = plural(run.feasibility.num_completions(run.loop.completions_per_prompt), "completion")
    rows = {"sampled": f"up to {plural(run.feasibility.max_tasks, 'training task')}, {each} each"}
    return replace(plan, title="feasibility can be measured for a run with these settings:", rows={**rows, **plan.rows})


def judge(run: RunConfig, *, command: Sequence[str], console: Console) -> Feasibility:
    """Judge a run with a checked configuration; write feasibility.json and the samples.

    Args:
        run: The configuration of the run in question.
        command: The command line, for the manifest.
        console: Shows the progress.

    Raises:
        RftError: The message gives reason and remedy.
    """
    _refuse_file(run)
    run = run.model_copy(update={"storage": None})
    require_packages_here(run)
    refuse_early(run)
    inputs = read_inputs(run, needs_training_tasks=True, output=Path(run.output_dir))
    inputs = with_quantized_base(run, with_merged_start(run, inputs, console.print), console.print)
    with ray_ahead_for(run):
        with counted(console, "checking prompts") as tell:
            prepared = render_prompts(inputs, tell)
        run = with_steps(run, len(prepared.tasks.train))
        recorder = open_recorder(run, prepared, command, None)
        progress = Progress(console)
        progress.start(0)
        try:
            report = run_to_end(_measured(run, prepared, recorder, progress))
        finally:
            progress.close()
            recorder.close()
    if run.feasibility.out is not None:
        write_json(Path(run.feasibility.out).expanduser(), report)
    return Feasibility(folder=recorder.folder, report=report)


async def _measured(run: RunConfig, prepared: Prepared, recorder: Recorder, progress: Progress) -> dict[str, Any]:
    """Open the parts, measure, and record."""
    from rft.run.feasibility import measure_feasibility  # these two import Ray, which the core does not install
    from rft.run.parts import open_parts

    began = time.monotonic()
    async with open_parts(run, prepared, progress.event) as parts:
        start_s = time.monotonic() - began
        report, groups = await measure_feasibility(
            run, prepared, parts, prepared.tasks.train, progress.event, start_s=start_s, with_learner=True
        )
        recorder.rollouts(groups, step=0, phase="feasibility")
        recorder.json(FEASIBILITY, report)
    remove_shards(recorder.folder, up_to=2)
    return report


def _refuse_file(run: RunConfig) -> None:
    """Refuse a file for the result that exists, or whose folder does not.

    Raises:
        OutputError: The file cannot be written.
    """
    if run.feasibility.out is None:
        return
    file = Path(run.feasibility.out).expanduser()
    if file.exists():
        raise OutputError("feasibility", [f"out={file}: it exists already; choose another name, or remove it"])
    if not file.absolute().parent.is_dir():
        raise OutputError("feasibility", [f"out={file}: the folder {file.absolute().parent} does not exist"])
