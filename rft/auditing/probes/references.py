"""Right answers must be paid, wrong ones must not: the probes that need nothing but references."""

from __future__ import annotations

import itertools
from dataclasses import replace

from rft.auditing.answers import choices_of, near_misses, parts_of, short
from rft.auditing.bench import other_task
from rft.auditing.cases import Case, Graded
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.probe import Probe
from rft.auditing.subject import FULL, PAID, Subject, was_skipped

EMPTY = "the reference is an empty text"
INVERSION = 0.05
"""By so much of full marks may an answer with less in it be paid more."""


async def gold_is_paid(subject: Subject) -> Finding:
    """References as answers get full marks."""
    if not subject.right:
        return not_applicable(f"no task has a reference in the column '{subject.gold}' (name another with gold=...)")
    skipped = [one for one in subject.right if was_skipped(one)]
    judged = [one for one in subject.right if not was_skipped(one)]
    if not judged:
        return failed("the graders decline to grade every reference", skipped)
    mean = subject.mean(judged)
    formats = {name: subject.mean(graded) for name, graded in subject.by_format.items()}
    unpaid = [one for one in judged if (subject.share(one) or 0.0) < FULL]
    figures = {"format": subject.format, "mean": mean, "by_format": formats, "skipped": len(skipped)}
    if mean < FULL:
        said = f"right answers earn {mean:.2f} of full marks on average, in the best format there is ({subject.format})"
        return failed(f"{said}; {len(unpaid)} of {len(judged)} are underpaid", unpaid, **figures)
    said = f"right answers earn {mean:.2f} of full marks when written as '{subject.format}'"
    refused = [name for name, share in formats.items() if share < FULL]
    shares = ", ".join(f"{name} ({formats[name]:.2f})" for name in refused)
    problems = []
    if skipped:
        problems.append(f"{len(skipped)} of {len(subject.right)} references are declined, so their tasks teach nothing")
    if refused:
        problems.append(f"not accepted are the formats: {shares}. Say in the prompt which one is wanted")
    if problems:
        examples = skipped + [one for name in refused for one in subject.by_format[name][:1]]
        return warned(f"{said}; {'; '.join(problems)}", [*unpaid, *examples], **figures)
    return passed(f"{said}, and in every other format", **figures)


async def wrong_gold_is_not_paid(subject: Subject) -> Finding:
    """Other rows' references and near misses get nothing."""
    cases = []
    for task in subject.solved:
        options = [one for one in choices_of(task) or () if not subject.is_right(task, one)]
        cases += [subject.case(task, one, "another option") for one in options]
        other = subject.other_answer(task)
        misses = near_misses(short(subject.answer(task)), None if other is None else short(other))
        cases += [subject.case(task, one, note) for note, one in misses if not subject.is_right(task, one)]
    wrong = [*subject.wrong, *await subject.bench.grade(cases)]
    if not wrong:
        return not_applicable("all references are the same, so there is no wrong answer to make of another's")
    paid, full = subject.paid(wrong), subject.paid(wrong, above=FULL)
    figures = {"cases": len(wrong), "paid": len(paid), "paid_in_full": len(full), "mean": subject.mean(wrong)}
    said = f"{len(paid)} of {len(wrong)} wrong answers are paid more than {PAID:.0%} of full marks"
    if not paid:
        return passed(f"none of {len(wrong)} wrong answers is paid", **figures)
    if full or not subject.gives_partial_credit or figures["mean"] > 0.5:
        return failed(f"{said}, {len(full)} of them in full", paid, **figures)
    return warned(f"{said}, as partial credit; is it deserved?", paid, **figures)


async def less_is_not_more(subject: Subject) -> Finding:
    """With parts of the answer deleted, pay never rises."""
    ladders: list[list[Graded]] = []
    for task in subject.solved:
        rungs = parts_of(short(subject.answer(task)))
        if rungs:
            cases = [subject.case(task, rung, f"rung {number} of {len(rungs)}") for number, rung in enumerate(rungs, 1)]
            ladders.append(await subject.bench.grade(cases))
    if not ladders:
        return not_applicable("no reference has parts (fields of an object, four words or more) to delete one by one")
    inverted = [
        (more, less)
        for ladder in ladders
        for more, less in itertools.pairwise(ladder)
        if (subject.share(less) or 0.0) > (subject.share(more) or 0.0) + INVERSION
    ]
    if inverted:
        said = f"{len(inverted)} times an answer with less in it was paid more"
        return failed(said, [one for pair in inverted for one in pair], ladders=len(ladders), inversions=len(inverted))
    return passed(f"on {len(ladders)} ladders of ever less complete answers pay never rose", ladders=len(ladders))


async def null_references(subject: Subject) -> Finding:
    """Without a reference nothing is paid."""
    if not subject.right:
        return not_applicable(f"no task has a reference in the column '{subject.gold}' to take away")
    cases = []
    for task in subject.solved[:5]:
        without = {name: value for name, value in task.item.items() if name != subject.gold}
        changed = {
            "the reference is None": other_task(task, "gold None", **{subject.gold: None}),
            "the reference is missing": replace(task, id=f"{task.id} (gold missing)", item=without),
            EMPTY: other_task(task, "gold empty", **{subject.gold: ""}),
        }
        cases += [
            Case(task=one, completion=subject.wrap(answer) if answer else "", note=note)
            for note, one in changed.items()
            for answer in ("None", "null", "", "nan", "{}", "0", "I do not know.")
        ]
    graded = await subject.bench.grade(cases)
    spelled = {subject.wrap("None"), subject.wrap("null"), "None", "null"}
    paid = subject.paid(graded, above=subject.fail_above)
    is_real = any(task.item.get(subject.gold) is None for task in subject.tasks)
    worse = [one for one in paid if one.case.note != EMPTY and (is_real or one.case.completion not in spelled)]
    figures = {"cases": len(graded), "paid": len(paid)}
    if worse:
        return failed(
            f"{len(worse)} of {len(graded)} empty answers to tasks without a reference are paid", worse, **figures
        )
    if paid:
        said = "that spell out the reference there is not ('null', or an empty text) would be paid, if a row had none"
        return warned(f"{len(paid)} answers {said}", paid, **figures)
    return passed(f"none of {len(graded)} empty answers to tasks without a reference is paid", **figures)


PROBES = (
    Probe(
        name="gold self-score",
        family="references",
        why="A right answer that is not paid teaches the model to avoid it. Verifiers made of rules miss right "
        "answers, more of them as the policy improves (Huang et al., arXiv 2505.22203).",
        how="The reference as the answer, bare and in the ways models write answers (boxed, bold, sentence, JSON, "
        "tagged, after thinking, ...); the best of them is taken for the grader's own format.",
        threshold="fails if the best format earns less than 0.95 of full marks; warns of formats that earn less",
        remedy="Look at the reason given for the underpaid references: the column, its format, or the normalisation "
        "is not what the grader expects. If the grader demands a format of its own, give it with "
        "template='...{answer}...'.",
        look=gold_is_paid,
    ),
    Probe(
        name="wrong gold",
        family="references",
        why="Pay for wrong answers is what reinforcement learning finds first and exploits longest.",
        how="Each task gets the reference of another, each other option, a number off by one, the opposite, the "
        "reference denied, and the reference continued: 180, '18 or 5', '18 is wrong; 5' for 18.",
        threshold="fails if any earns more than 10% of full marks; where partial credit is given, if any earns full "
        "marks or the mean is above 0.5",
        remedy="Compare the whole answer, not a part of it; refuse a denied answer; read one answer, the last.",
        look=wrong_gold_is_not_paid,
    ),
    Probe(
        name="monotonicity",
        family="references",
        why="Where an answer that says less earns more, the model learns to say less.",
        how="Fields or words of the reference are deleted step by step.",
        threshold="fails if any step raises pay by more than 5% of full marks",
        remedy="Divide by the number of parts that are wanted, not by the number that were given.",
        look=less_is_not_more,
    ),
    Probe(
        name="missing reference",
        family="references",
        why="A reference that is None, turned into text, equals the answer 'None'; an empty one is contained in every "
        "text. Then every broken row pays.",
        how="Rows whose reference is None, empty or missing, and answers that say nothing.",
        threshold="fails if any is paid; warns of those that spell out a reference that no row lacks, as 'null'",
        remedy="Return None (declined) for a row without a reference.",
        look=null_references,
    ),
)
