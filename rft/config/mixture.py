"""Reads and checks `data.mixture`: the task families of a run."""

from __future__ import annotations

from collections.abc import Iterator

from rft.config.families import FamilyConfig
from rft.config.schema import DataConfig, EvaluateConfig, RunConfig
from rft.wording import listed

SPLITS = ("train", "validation", "test")


def sources(data: DataConfig, split: str) -> dict[str, str]:
    """Return the sources of the `train`, `validation` or `test` tasks by configuration key."""
    of_family = "source" if split == "train" else split
    given = {f"data.{split}": getattr(data, split)}
    given |= {f"data.mixture.{name}.{of_family}": getattr(family, of_family) for name, family in data.mixture.items()}
    return {key: source for key, source in given.items() if source is not None}


def graders_by_family(data: DataConfig) -> dict[str, list[str]]:
    """Return the names of each family's graders; empty without a mixture."""
    return {name: family.graders for name, family in data.mixture.items()}


def trained_families(data: DataConfig) -> dict[str, FamilyConfig]:
    """Return the families whose training tasks the steps sample."""
    return {
        name: family for name, family in data.mixture.items() if family.source and (data.replay or not family.older)
    }


def mixture_problems(config: RunConfig | EvaluateConfig) -> list[str]:
    """Return the problems of the task families, one sentence each."""
    data = config.data
    if not data.mixture:
        unused = {"temperature": data.temperature != 1, "replay": data.replay, "curriculum": data.curriculum}
        return [
            f"data.{key}: has no effect without data.mixture; leave it out" for key, is_set in unused.items() if is_set
        ]
    return [
        *_doubled_sources(data),
        *(problem for name, family in data.mixture.items() for problem in _family_problems(name, family, config)),
        *_unbound_graders(config),
        *([*_share_problems(data), *_curriculum_problems(config)] if isinstance(config, RunConfig) else ()),
    ]


def _doubled_sources(data: DataConfig) -> Iterator[str]:
    """Refuse task files outside the families, whose graders would be unknown."""
    for split in SPLITS:
        if source := getattr(data, split):
            yield (
                f"data.{split}={source}: data.mixture names the tasks of each family; set data.{split}=null, or leave "
                "data.mixture out"
            )


def _family_problems(name: str, family: FamilyConfig, config: RunConfig | EvaluateConfig) -> Iterator[str]:
    key, metric = f"data.mixture.{name}", config.evaluation.metric
    if not name or "/" in name:
        yield f"{key}: {name!r} is no name of a family, which is not empty and contains no slash; rename it"
    if not (family.source or family.validation or family.test):
        yield f"{key}: names no tasks; give source, validation or test"
    if not family.graders:
        yield (
            f"{key}.graders is missing: the graders that score this family; write "
            f"{key}.graders=[{','.join(config.graders) or '<grader>'}]"
        )
    elif unknown := [grader for grader in family.graders if grader not in config.graders]:
        yield (
            f"{key}.graders: {listed(unknown)} is not among the graders of this run "
            f"({', '.join(config.graders) or 'none'}); add it as graders.{unknown[0]}.use=<grader>, or correct the name"
        )
    elif all(config.graders[grader].get("weight", 1.0) == 0 for grader in family.graders):
        yield f"{key}.graders: every weight is 0, so every reward would be 0; add a grader with a weight"
    is_measured = family.test or _has_validation(name, config.data)
    if is_measured and family.graders and metric not in ("reward", *family.graders):
        yield f"evaluation.metric={metric}: {key} is not scored by it; use reward, or add it to {key}.graders"
    if family.validation and config.data.validation_share:
        yield f"data.validation_share={config.data.validation_share}: {key}.validation is given as well; keep one"


def _has_validation(name: str, data: DataConfig) -> bool:
    """Whether a family has validation tasks: a file, or a share of its training tasks."""
    return bool(data.mixture[name].validation or (data.validation_share and name in trained_families(data)))


def _unbound_graders(config: RunConfig | EvaluateConfig) -> list[str]:
    bound = {grader for family in config.data.mixture.values() for grader in family.graders}
    return [
        f"graders.{name}: no family of data.mixture uses it; add it to data.mixture.<name>.graders, or remove it"
        for name in config.graders
        if bound and name not in bound
    ]


def _share_problems(data: DataConfig) -> Iterator[str]:
    """Refuse shares that are contradictory or undefined."""
    trained = trained_families(data)
    older = [name for name, family in trained.items() if family.older]
    if data.replay and not older:
        yield f"data.replay={data.replay:g}: no family with a source is older; set older=true on one"
    if all(family.older for family in trained.values()):
        yield "data.mixture: no family has new training tasks; give one a source, without older=true"
    for is_older in (False, True):
        group = {name: family for name, family in trained.items() if family.older is is_older}
        weighted = [name for name, family in group.items() if family.weight is not None]
        if weighted and len(weighted) < len(group):
            missing = [name for name in group if name not in weighted]
            yield (
                f"data.mixture: there is a weight for {listed(weighted)}, and none for {listed(missing)}, so their "
                "shares cannot be compared; give each a weight, or none"
            )
        for name in weighted:
            if group[name].cap is not None:
                yield f"data.mixture.{name}.cap={group[name].cap}: has no effect beside weight; keep one of the two"


def _curriculum_problems(run: RunConfig) -> Iterator[str]:
    if run.data.curriculum is None:
        return
    number = sum(not family.older for family in trained_families(run.data).values())
    if run.learner.takes != "groups":
        yield (
            f"data.curriculum: learner={run.learner.kind} samples nothing during training, so nothing is measured; "
            "leave it out"
        )
    if number < 2:
        yield "data.curriculum: needs two families with new training tasks; add one to data.mixture, or leave it out"
    if number * run.data.curriculum.floor > 1:
        yield (
            f"data.curriculum.floor={run.data.curriculum.floor:g}: {number} families with this share exceed a step; "
            f"use at most {1 / number:.3g}"
        )


def guard_problems(run: RunConfig) -> list[str]:
    """Return the problems of `evaluation.guard`, one sentence each."""
    how, families = run.evaluation, run.data.mixture
    if not how.guard:
        unused = "evaluation.guard_action=stop: has no effect without evaluation.guard; leave it out, or set a limit"
        return [unused] if how.guard_action == "stop" else []
    return [problem for name in how.guard for problem in _guard_problems(name, families.get(name), run)]


def _guard_problems(name: str, family: FamilyConfig | None, run: RunConfig) -> Iterator[str]:
    how, data, key = run.evaluation, run.data, f"evaluation.guard.{name}"
    if family is None:
        known = f"it has {listed(list(data.mixture))}" if data.mixture else "there is no mixture"
        yield f"{key}: data.mixture has no family of this name; {known}"
        return
    has_validation = _has_validation(name, data)
    if how.guard_action == "stop" and not (has_validation and how.every_steps):
        yield (
            f"{key}: evaluation.guard_action=stop needs measurements during the run; give validation tasks in "
            f"data.mixture.{name}.validation, and evaluation.every_steps"
        )
    elif not (has_validation or family.test):
        yield f"{key}: the family is never measured; give data.mixture.{name}.validation or data.mixture.{name}.test"
