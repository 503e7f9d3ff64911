"""`rft.compare`: compares what runs, adapters and base models do on the same held-out tasks."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from rft.api.calls import make_console
from rft.api.graded_places import grade_planned, plan_gradings, with_added_graders
from rft.api.measured_places import Planned, measure_planned, plan_measurements
from rft.config.like_run import is_key, words_of_graders
from rft.config.overrides import Overrides, to_words
from rft.errors import UsageError
from rft.evidence.compare_page import page_of
from rft.evidence.compared import Compared, compare_measured, compare_settings
from rft.evidence.measured import OUT, Measured, read_measured, runs_in
from rft.evidence.places import Place, place_of
from rft.metrics.intervals import UNIT
from rft.metrics.retention_report import guard_notes
from rft.reliability.durable import replace_file
from rft.run.inputs.fitting import Reuse
from rft.run_folder.recorder import CONFIG
from rft.wording import listed, plural

MAX_SHOWN = 3
"""Tasks that a message names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A comparison by every common metric.

    Example:
        Result(compared=(Compared(metric="reward", ...), Compared(metric="correct", ...)), notes=("...",))
    """

    compared: tuple[Compared, ...]
    """One comparison for each metric; `reward` is the first."""
    notes: tuple[str, ...]
    """What a reader must know: what was left out, corrected, or not compared."""


def compare(
    *places: Overrides,
    metrics: Sequence[str] = (),
    phase: str | None = None,
    pass_at: Sequence[int] = (),
    html: str | None = None,
    report: str | None = None,
    out: str | os.PathLike[str] = OUT,
    quiet: bool = False,
) -> Result:
    """Compare what runs measured on the same held-out tasks.

    An adapter or a base model that no run measured is measured first, like the first recorded run of the places: with
    its held-out tasks, graders, seed and sampling options. A grader that only the keys name also grades the recorded
    completions.

    Args:
        places: At least two folders of `rft train` or `rft evaluate`, files like rollouts.jsonl, adapters, base models,
            or folders of such folders, which are runs of one setting with several seeds; each may follow a name, as in
            `tuned=runs/first`. Keys of `rft evaluate`, such as `"sampler=transformers"`, or a mapping of them, change
            how places are measured.
        metrics: Metrics to compare: `reward` or names of graders; none takes all common ones.
        phase: `before`, `after` or `test`; None takes the one after training, or that of `rft evaluate`.
        pass_at: Numbers of attempts for pass@k.
        html: A `.html` file for the report; it must not exist.
        report: A `.json` file for the report; it must not exist.
        out: The folder that keeps new measurements. A measurement that it holds is not made again.
        quiet: Show no progress of measurements.

    Raises:
        UsageError: Something cannot be compared or measured; contains all problems.
        WriteError: A report cannot be written.
        RftError: A measurement failed.
        KeyboardInterrupt: Ctrl-C ended a measurement.

    Example:
        result = rft.compare("base=embedded:tiny", "tuned=runs/tuned", html="comparison.html")
    """
    problems = [
        f"{name}={target}: {problem}"
        for name, target in (("html", html), ("json", report))
        if target is not None and (problem := _problem_of(Path(target)))
    ]
    problems += [f"pass@{k}: the number of attempts must be at least 1" for k in pass_at if k < 1]
    notes: list[str] = []
    settings = _measured(to_words(places), metrics, phase, Path(out), make_console(quiet=quiet), problems, notes)
    names = _check([*itertools.chain(*settings.values())], metrics, problems, notes)
    if problems:
        raise UsageError("comparison", problems)
    compared = tuple(_compared(settings, name, pass_at) for name in names)
    result = Result(compared=compared, notes=(*notes, *_notes(settings, compared, pass_at)))
    if html is not None:
        replace_file(Path(html), [page_of(compared, result.notes).encode()])
    if report is not None:
        values = _report(result, settings)
        replace_file(Path(report), [json.dumps(values, indent=1).encode() + b"\n"])
    return result


def _report(result: Result, settings: Mapping[str, Sequence[Measured]]) -> dict[str, Any]:
    """Return the content of the JSON report."""
    forgetting = {
        name: [one.forgetting for one in runs] for name, runs in settings.items() if any(one.forgetting for one in runs)
    }
    return {
        "compared": [one.to_json() for one in result.compared],
        "forgetting": forgetting,
        "notes": result.notes,
    }


def _measured(
    words: Sequence[str],
    metrics: Sequence[str],
    phase: str | None,
    out: Path,
    console: Console,
    problems: list[str],
    notes: list[str],
) -> dict[str, list[Measured]]:
    """Read the recorded measurements and make the others, by the name of the place.

    Nothing is measured if there are problems, such as no common task or metric.

    Raises:
        UsageError: There are problems. Contains all of them.
    """
    keys = [word for word in words if is_key(word) and not Path(word).exists()]
    places = _places([word for word in words if word not in keys], problems)
    settings = _settings(places, phase, problems, notes)
    reuse = Reuse()
    planned = _planned(places, keys, out, reuse, problems)
    gradings = {name: plan_gradings(runs, keys, out=out, problems=problems) for name, runs in settings.items()}
    pairs = [pair for name, runs in settings.items() for pair in zip(runs, gradings[name], strict=True)]
    expected = [with_added_graders(one.expected, keys, out=out, problems=problems) for one in planned]
    if not problems:
        ahead = [*(grading.expected if grading else one for one, grading in pairs), *expected]
        _check(ahead, metrics, problems, [])
    if problems:
        raise UsageError("comparison", [*dict.fromkeys(problems)])  # places share some
    for name, runs in settings.items():
        own = zip(runs, gradings[name], strict=True)
        settings[name] = [grade_planned(grading, console) if grading else one for one, grading in own]
    for plan in planned:
        measure_planned(plan, console, reuse, notes.append)
        one = read_measured(plan.folder, name=plan.name, phase=None, tell=notes.append)
        [grading] = plan_gradings([one], keys, out=out, problems=problems)
        settings[plan.name] = [grade_planned(grading, console) if grading else one]
    return {place.name: settings[place.name] for place in places}


def _places(words: Sequence[str], problems: list[str]) -> list[Place]:
    """Return what the places are, each with a name of its own."""
    if len(words) < 2:
        problems.append("name at least two runs to compare, such as base=runs/base tuned=runs/tuned")
    places: dict[str, Place] = {}
    for word in words:
        is_path = Path(word).expanduser().exists() or "=" not in word
        given, _, rest = ("", "", word) if is_path else word.partition("=")
        name = given or Path(rest).expanduser().absolute().name
        name = name if name not in places else rest
        if name in places:
            problems.append(f"{word} is named twice")
            continue
        try:
            places[name] = place_of(rest, name=name)
        except ValueError as error:
            problems.append(str(error))
    return [*places.values()]


def _settings(
    places: Sequence[Place], phase: str | None, problems: list[str], notes: list[str]
) -> dict[str, list[Measured]]:
    """Read all recorded measurements, by the name of the place."""
    settings: dict[str, list[Measured]] = {}
    for place in places:
        if not place.is_recorded:
            continue
        path = Path(place.given).expanduser()
        settings[place.name] = []
        for run in [*runs_in(path)] or [path]:
            try:
                settings[place.name].append(read_measured(run, name=place.name, phase=phase, tell=notes.append))
            except (ValueError, KeyError) as error:
                problems.append(
                    str(error) if isinstance(error, ValueError) else f"{run}: no lines of rollouts: {error}"
                )
        problems += _mixed_settings(place.given, settings[place.name])
    return settings


def _planned(
    places: Sequence[Place], keys: Sequence[str], out: Path, reuse: Reuse, problems: list[str]
) -> list[Planned]:
    """Plan the measurements of the places that have none."""
    unmeasured = [place for place in places if not place.is_recorded]
    if not unmeasured:
        used = [word for own in words_of_graders(keys).values() for word in own]
        unused = [key for key in keys if key not in used]
        problems += [f"{key}: every place is recorded, so nothing is measured; leave it out" for key in unused]
        return []
    recorded = [Path(place.given).expanduser() for place in places if place.is_recorded]
    runs = [run for path in recorded for run in [*runs_in(path)] or [path] if (run / CONFIG).is_file()]
    return plan_measurements(unmeasured, runs[0] if runs else None, keys, out=out, reuse=reuse, problems=problems)


def _check(every: Sequence[Measured], metrics: Sequence[str], problems: list[str], notes: list[str]) -> list[str]:
    """Return the metrics that can be compared."""
    problems += _different_tasks(every)
    return _metrics(every, metrics, problems, notes) if not problems else []


def _problem_of(target: Path) -> str | None:
    """Return why a report cannot be written."""
    if target.exists():
        return "it exists already; choose another name, or remove it"
    return None if target.absolute().parent.is_dir() else f"the folder {target.absolute().parent} does not exist"


def _mixed_settings(place: str, runs: Sequence[Measured]) -> list[str]:
    """Return the problem of a folder whose runs differ in more than their seed, or do not differ in it."""
    if len({one.setting for one in runs}) < 2:
        seeds = [one.seed for one in runs]
        twice = sorted({str(seed) for seed in seeds if seed is not None and seeds.count(seed) > 1})
        return [f"{place}: several of its runs have the seed {listed(twice)}; name one of them"] if twice else []
    one, other = (json.loads(setting) for setting in sorted({one.setting for one in runs})[:2])
    keys = sorted(key for key in {*one, *other} if one.get(key) != other.get(key))
    return [f"{place}: its runs differ in {listed(keys)}, not in the seed alone; name each of them to compare them"]


def _different_tasks(measured: Sequence[Measured]) -> list[str]:
    """Return the problems of measurements without common tasks, and of one id for different tasks."""
    problems = []
    for one, other in itertools.combinations(measured, 2):
        common = [task for task in one.tasks if task in other.tasks]
        changed = [task for task in common if _is_changed(one.tasks[task], other.tasks[task])]
        if not common:
            problems.append(f"{one.place} and {other.place} measured no common task: nothing can be paired")
        elif changed:
            problems.append(
                f"{plural(len(changed), 'task')} of {one.place} and {other.place} have the same id but other contents: "
                f"{', '.join(changed[:MAX_SHOWN])}"
            )
    return problems


def _is_changed(one: Sequence[str | None], other: Sequence[str | None]) -> bool:
    """Whether two tasks differ in a part that both have."""
    parts = zip(one, other, strict=True)
    return any(mine != theirs for mine, theirs in parts if mine is not None and theirs is not None)


def _metrics(measured: Sequence[Measured], wanted: Sequence[str], problems: list[str], notes: list[str]) -> list[str]:
    """Return the metrics that all measurements have, with equal graders; without `wanted`, none that is the reward."""
    common = [name for name in measured[0].samples if all(name in one.samples for one in measured)]
    problems += [
        f"metric {name}: not every run has it; all have {listed(common)}" for name in wanted if name not in common
    ]
    usable = []
    for name in wanted or common:
        if name not in common:
            continue
        if len({one.graders[name] for one in measured if name in one.graders}) > 1:
            text = f"{name} is not compared: its grader has other code or options in some run"
            (problems if wanted else notes).append(text)
        elif (
            name in wanted
            or "reward" not in usable
            or any(one.samples[name] != one.samples.get("reward") for one in measured)
        ):
            usable.append(name)
    if not usable and not problems:
        problems.append(
            "no metric can be compared: the graders differ; add one that grades every place, graders.<name>.use=..."
        )
    return usable


def _compared(settings: dict[str, list[Measured]], metric: str, pass_at: Sequence[int]) -> Compared:
    if any(len(runs) > 1 for runs in settings.values()):
        return compare_settings(settings, metric)
    singles = [replace(runs[0], name=name) for name, runs in settings.items()]
    return compare_measured(singles, metric, ks=pass_at, bounds=singles[0].bounds.get(metric, UNIT))


def _forgotten(one: Measured) -> list[str]:
    """Return whether a run kept the limits of `evaluation.guard`, one sentence for each family."""
    return [*guard_notes(one.forgetting.get("guard", {})), *one.forgetting.get("left_out", ())]


def _notes(settings: dict[str, list[Measured]], compared: Sequence[Compared], pass_at: Sequence[int]) -> list[str]:
    """Return what a reader must know about the comparison, one sentence each."""
    every = [one for own in settings.values() for one in own]
    notes = [
        f"{one.name}: its checkpoint was chosen on {one.chosen_on}, the tasks that it is judged on here; its mean is "
        "too high by an unknown amount"
        for one in every
        if one.chosen_on
    ]
    notes += [f"{one.name}: {sentence}" for one in every for sentence in _forgotten(one)]
    for one in compared:
        if one.comparison.num_left_out:
            notes.append(
                f"{one.metric}: {plural(one.comparison.num_left_out, 'task')} left out, for which some run has no value"
            )
    if len(settings) > 2:
        how = "p-values (Holm)" if any(one.unit == "task" for one in compared) else "intervals (Bonferroni)"
        notes.append(
            f"{plural(len(settings) * (len(settings) - 1) // 2, 'comparison')} at once: the {how} are corrected for "
            "it; the highest of several means is still too high"
        )
    if any(len(runs) > 1 for runs in settings.values()):
        alone = [name for name, runs in settings.items() if len(runs) == 1]
        notes += [f"{name}: a single run has no interval over seeds" for name in alone]
    notes += [
        f"pass@{k} needs at least {k} samples of every task, each right or wrong"
        for k in pass_at
        if not any(k in one.pass_at for one in compared)
    ]
    return notes
