"""Probes that need only references: right answers must be paid, wrong answers must not."""

from __future__ import annotations

import itertools
from dataclasses import replace

from rft.auditing.answers import choices_of, near_misses, parts_of, short
from rft.auditing.audit_panel import other_task
from rft.auditing.cases import Case, GradedCase
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.grader_profile import FULL, PAID, GraderProfile, was_skipped
from rft.auditing.probe import Probe

EMPTY = "the reference is an empty text"
INVERSION = 0.05
"""Share of full marks by which a less complete answer may earn more."""


async def gold_self_score(profile: GraderProfile) -> Finding:
    """Check that references as answers get full marks."""
    if not profile.right:
        return not_applicable(f"no task has a reference in the column '{profile.gold}' (set gold=<column>)")
    skipped = [result for result in profile.right if was_skipped(result)]
    judged = [result for result in profile.right if not was_skipped(result)]
    if not judged:
        return failed("the graders decline all references", skipped)
    mean = profile.mean(judged)
    formats = {name: profile.mean(graded) for name, graded in profile.by_format.items()}
    unpaid = [result for result in judged if (profile.share(result) or 0.0) < FULL]
    figures = {"format": profile.format, "mean": mean, "by_format": formats, "skipped": len(skipped)}
    if mean < FULL:
        message = f"right answers earn {mean:.2f} of full marks on average, in the best format ({profile.format})"
        return failed(f"{message}; {len(unpaid)} of {len(judged)} are underpaid", unpaid, **figures)
    message = f"right answers earn {mean:.2f} of full marks when written as '{profile.format}'"
    refused = [name for name, share in formats.items() if share < FULL]
    shares = ", ".join(f"{name} ({formats[name]:.2f})" for name in refused)
    problems = []
    if skipped:
        problems.append(
            f"{len(skipped)} of {len(profile.right)} references are declined, so their tasks do not "
            "contribute to training"
        )
    if refused:
        problems.append(f"some formats earn less: {shares}. State the expected format in the prompt")
    if problems:
        examples = skipped + [result for name in refused for result in profile.by_format[name][:1]]
        return warned(f"{message}; {'; '.join(problems)}", [*unpaid, *examples], **figures)
    return passed(f"{message}, and in every other format", **figures)


async def wrong_gold(profile: GraderProfile) -> Finding:
    """Check that references of other tasks and near misses earn nothing."""
    cases = []
    for task in profile.solved:
        options = [answer for answer in choices_of(task) or () if not profile.is_right(task, answer)]
        cases += [profile.case(task, answer, "another option") for answer in options]
        other = profile.other_answer(task)
        misses = near_misses(short(profile.answer(task)), None if other is None else short(other))
        cases += [profile.case(task, answer, note) for note, answer in misses if not profile.is_right(task, answer)]
    wrong = [*profile.wrong, *await profile.panel.grade(cases)]
    if not wrong:
        return not_applicable("all references are equal, so none is a wrong answer to another task")
    paid, full = profile.paid(wrong), profile.paid(wrong, above=FULL)
    figures = {"cases": len(wrong), "paid": len(paid), "paid_in_full": len(full), "mean": profile.mean(wrong)}
    message = f"{len(paid)} of {len(wrong)} wrong answers are paid more than {PAID:.0%} of full marks"
    if not paid:
        return passed(f"none of {len(wrong)} wrong answers is paid", **figures)
    if full or not profile.gives_partial_credit or figures["mean"] > 0.5:
        return failed(f"{message}, {len(full)} of them in full", paid, **figures)
    return warned(f"{message}, as partial credit; check whether they deserve it", paid, **figures)


async def monotonicity(profile: GraderProfile) -> Finding:
    """Check that deleting parts of the answer never raises the reward."""
    ladders: list[list[GradedCase]] = []
    for task in profile.solved:
        rungs = parts_of(short(profile.answer(task)))
        if rungs:
            cases = [profile.case(task, rung, f"part {number} of {len(rungs)}") for number, rung in enumerate(rungs, 1)]
            ladders.append(await profile.panel.grade(cases))
    if not ladders:
        return not_applicable("no reference has parts (fields of an object, four words or more) to delete one by one")
    inverted = [
        (more, less)
        for ladder in ladders
        for more, less in itertools.pairwise(ladder)
        if (profile.share(less) or 0.0) > (profile.share(more) or 0.0) + INVERSION
    ]
    if inverted:
        message = f"in {len(inverted)} cases a less complete answer earned more"
        return failed(
            message, [result for pair in inverted for result in pair], ladders=len(ladders), inversions=len(inverted)
        )
    return passed(f"no less complete answer earned more, for {len(ladders)} references", ladders=len(ladders))


async def missing_reference(profile: GraderProfile) -> Finding:
    """Check that answers to tasks without a reference earn nothing."""
    if not profile.right:
        return not_applicable(f"no task has a reference in the column '{profile.gold}'")
    cases = []
    for task in profile.solved[:5]:
        without = {name: value for name, value in task.item.items() if name != profile.gold}
        changed = {
            "the reference is None": other_task(task, "gold None", **{profile.gold: None}),
            "the reference is missing": replace(task, id=f"{task.id} (gold missing)", item=without),
            EMPTY: other_task(task, "gold empty", **{profile.gold: ""}),
        }
        cases += [
            Case(task=variant, completion=profile.wrap(answer) if answer else "", note=note)
            for note, variant in changed.items()
            for answer in ("None", "null", "", "nan", "{}", "0", "I do not know.")
        ]
    graded = await profile.panel.grade(cases)
    spelled = {profile.wrap("None"), profile.wrap("null"), "None", "null"}
    paid = profile.paid(graded, above=profile.fail_above)
    is_real = any(task.item.get(profile.gold) is None for task in profile.tasks)
    worse = [
        result for result in paid if result.case.note != EMPTY and (is_real or result.case.completion not in spelled)
    ]
    figures = {"cases": len(graded), "paid": len(paid)}
    if worse:
        return failed(
            f"{len(worse)} of {len(graded)} empty answers to tasks without a reference are paid", worse, **figures
        )
    if paid:
        message = (
            "that spell out a missing reference ('null', or an empty text) would be paid if a task had no reference"
        )
        return warned(f"{len(paid)} answers {message}", paid, **figures)
    return passed(f"none of {len(graded)} empty answers to tasks without a reference is paid", **figures)


PROBES = (
    Probe(
        name="gold self-score",
        family="references",
        why="A model learns to avoid right answers that are not paid. Rule-based verifiers miss right answers, and "
        "miss more as the policy improves (Huang et al., arXiv 2505.22203).",
        how="The reference as the answer, bare and in the formats of models (boxed, bold, sentence, JSON, tagged, "
        "after thinking, ...). The best format is taken as the grader's format.",
        threshold="fails if the best format earns less than 95% of full marks; warns if other formats do",
        remedy="Read the reasons of the underpaid references: the grader expects another column, format or "
        "normalisation. If the grader requires a format that is not listed, set template='...{answer}...'.",
        run=gold_self_score,
    ),
    Probe(
        name="wrong gold",
        family="references",
        why="Reinforcement learning finds a reward for wrong answers first and exploits it longest.",
        how="For each task, the reference of another task, each other option, a number off by one, the opposite, the "
        "denied reference, and continued references: 180, '18 or 5', '18 is wrong; 5' for 18.",
        threshold="fails if any earns more than 10% of full marks; with partial credit, fails if any earns full marks "
        "or if the mean exceeds 50%",
        remedy="Compare the whole answer, reject denied answers, and read only the last answer.",
        run=wrong_gold,
    ),
    Probe(
        name="monotonicity",
        family="references",
        why="If a less complete answer earns more, the model learns to omit parts.",
        how="The reference with ever more of its fields or words deleted.",
        threshold="fails if a deletion raises the reward by more than 5% of full marks",
        remedy="Divide by the number of expected parts, not by the number of given parts.",
        run=monotonicity,
    ),
    Probe(
        name="missing reference",
        family="references",
        why="The reference None, converted to text, equals the answer 'None', and every text contains an empty "
        "reference. A grader without a check pays for every incomplete task.",
        how="Tasks whose reference is None, empty or missing, with empty answers.",
        threshold="fails if any is paid; warns if only answers such as 'null' are paid and every task has a reference",
        remedy="Return None (declined) for a task without a reference.",
        run=missing_reference,
    ),
)
