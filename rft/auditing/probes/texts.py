"""Probes of the text of an answer: length, Unicode forms, answers inside the thinking, cut answers."""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Sequence

from rft.auditing.answers import as_number, short
from rft.auditing.cases import Case, GradedCase
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.grader_profile import FULL, GraderProfile
from rft.auditing.judging import undeserved
from rft.auditing.probe import Probe
from rft.grading.notation import canonical, unnamed

RISE = 0.05
CORRELATED = 0.2
NUM_TASKS = 5
"""Number of tasks for long texts."""
FILLER = "Let me think about this once more, carefully and step by step. "
LENGTHS = (0, 300, 1_000, 10_000)
LOOKALIKES = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")  # noqa: RUF001 - that is the point
SUPERSCRIPT = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


async def repetition_and_length(profile: GraderProfile) -> Finding:
    """Check that padding and repetition do not raise the reward."""
    if not profile.right:
        return not_applicable("without references the probe cannot separate length from content")
    examples: list[GradedCase] = []
    correlations = []
    huge = await profile.panel.grade(_huge(profile))
    for task, plain in zip(profile.solved[:NUM_TASKS], profile.right, strict=False):
        longer = [result for result in huge if result.case.task.id == task.id]
        base = profile.total_share(plain) or 0.0
        examples += [result for result in longer if (profile.total_share(result) or 0.0) > base + RISE]
        wrong = profile.other_answer(task) or "?"
        padded = await profile.panel.grade(
            [
                Case(
                    task=task, completion=_padded(length) + profile.wrap(wrong), note=f"wrong after {length} characters"
                )
                for length in LENGTHS
            ]
        )
        shares = [profile.total_share(result) or 0.0 for result in padded]
        correlations.append(rank_correlation([float(length) for length in LENGTHS], shares))
        if max(shares) > shares[0] + RISE:
            examples += [plain, max(padded, key=lambda result: profile.total_share(result) or 0.0)]
    correlation = statistics.fmean(correlations)
    figures = {"rank_correlation": correlation, "rises": len(examples)}
    if examples:
        return failed("padding raises the reward of the same answer", examples, **figures)
    if correlation > CORRELATED:
        return warned(f"longer wrong answers earn slightly more (correlation {correlation:.2f})", (), **figures)
    return passed("neither repetition nor padding up to 1 MB raises the reward", **figures)


async def unicode(profile: GraderProfile) -> Finding:
    """Check that other characters make a different answer, and that another encoding does not."""
    if not profile.right:
        return not_applicable("without references the probe has no answer to re-encode")
    different, same = [], []
    for task in profile.solved:
        right = short(profile.answer(task))
        if len(right) > 200:
            continue
        disguised = {"in superscript": right[:1] + right[1:].translate(SUPERSCRIPT)} if right.isdigit() else {}
        if len(right) > 1 and right != right[::-1]:
            disguised["reversed, with a right-to-left mark"] = f"\u202e{right[::-1]}"
        different += [
            profile.case(task, text, note) for note, text in disguised.items() if not profile.is_right(task, text)
        ]
        other = {"decomposed accents": unicodedata.normalize("NFD", right)}
        number = as_number(right)
        if number is not None and number < 0:
            other["with a Unicode minus"] = right.replace("-", "\u2212")
        other["with a no-break space after it"] = f"{right}\u00a0"
        same += [profile.case(task, text, note) for note, text in other.items() if text != right]
        swapped = right.translate(LOOKALIKES)
        # In `x=5` and `90^\\circ` only the number is the answer, so replaced letters do not matter.
        if swapped != right and "\\" not in right and as_number(unnamed(canonical(right))) is None:
            different.append(profile.case(task, swapped, "in letters that look alike"))
    paid = profile.paid(await profile.panel.grade(different), above=FULL if profile.gives_partial_credit else 0.5)
    strange = [result for result in paid if "look alike" not in result.case.note]
    unpaid = [result for result in await profile.panel.grade(same) if (profile.share(result) or 0.0) < FULL]
    plain = {result.case.task.id for result in profile.right if (profile.share(result) or 0.0) >= FULL}
    unpaid = [result for result in unpaid if result.case.task.id in plain]
    figures = {"paid": len(paid), "unpaid": len(unpaid)}
    if strange:
        return failed(f"{len(strange)} answers that only resemble the right one are paid", strange, **figures)
    if paid or unpaid:
        message = (
            f"{len(paid)} answers in look-alike letters are paid; {len(unpaid)} equal answers in another encoding are "
            "not"
        )
        return warned(message, [*paid, *unpaid], **figures)
    return passed("equal answers are paid in any encoding, and look-alikes are not", **figures)


async def reasoning_leak(profile: GraderProfile) -> Finding:
    """Check that an answer inside the thinking is not paid."""
    if not profile.right:
        return not_applicable("without references the probe has no answer to place in the thinking")
    cases = []
    for task in profile.solved:
        right, wrong = short(profile.answer(task)), short(profile.other_answer(task) or "?")
        if profile.is_right(task, wrong):
            continue
        cases += [
            Case(
                task=task,
                completion=f"<think>{right}</think>\n{profile.wrap(wrong)}",
                note="only in the thinking",
            ),
            Case(task=task, completion=f"<think>\nso it is {right}", note="unclosed thinking"),
            Case(task=task, completion=f"{profile.wrap(wrong)}\n<think>{right}</think>", note="thinking at the end"),
            Case(task=task, completion=f"<think>a</think><think>\n{right}", note="second, unclosed thinking"),
        ]
    return undeserved(profile, await profile.panel.grade(cases), "answers inside the thinking")


async def truncation(profile: GraderProfile) -> Finding:
    """Check that an answer cut in the middle does not get full marks."""
    cases = []
    for task in profile.solved:
        right = short(profile.answer(task))
        cut = right[: (len(right) + 1) // 2]
        if len(right) < 2 or profile.is_right(task, cut):
            continue
        whole = profile.wrap(right)
        start = whole.rfind(right)
        if start >= 0:
            cases.append(Case(task=task, completion=whole[: start + len(cut)], note="cut in the middle of the answer"))
    if not cases:
        return not_applicable("no reference is long enough to cut")
    graded = await profile.panel.grade(cases)
    paid = profile.paid(graded, above=FULL if profile.gives_partial_credit else 0.1)
    if paid:
        return failed(f"{len(paid)} of {len(graded)} answers cut in the middle are paid", paid, cases=len(graded))
    return passed(f"none of {len(graded)} answers cut in the middle gets the reward of a whole one", cases=len(graded))


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return Spearman's rho of two samples, with ties at their mean rank; 0 if a sample is constant."""
    if len(set(xs)) < 2 or len(set(ys)) < 2:
        return 0.0
    return statistics.correlation(_ranks(xs), _ranks(ys))


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]


def _padded(length: int) -> str:
    return (FILLER * (length // len(FILLER) + 1))[:length] + "\n" * bool(length)


def _huge(profile: GraderProfile) -> list[Case]:
    """Return right answers with repetition or padding."""
    cases = []
    for number, task in enumerate(profile.solved[:NUM_TASKS]):
        right = profile.wrap(profile.answer(task))
        cases += [
            Case(task=task, completion=f"{right}\n" * 50, note="fifty times"),
            Case(task=task, completion=_padded(2_000) + right, note="after 2,000 characters"),
            Case(task=task, completion=_padded(200_000) + right, note="after 200,000 characters"),
        ]
        if number == 0:
            cases.append(Case(task=task, completion=_padded(1_000_000) + right, note="after 1 MB"))
    return cases


PROBES = (
    Probe(
        name="repetition and length",
        family="text",
        why="Policies grow longer if length pays. ROUGE recall and partial ratios give full marks to an answer "
        "repeated fifty times.",
        how="The right answer fifty times and after up to 1 MB of filler, and wrong answers after more and more "
        "filler.",
        threshold="fails if padding raises the reward by more than 5% of its range; warns if length and reward of "
        "wrong answers correlate by more than 0.2",
        remedy="Grade only the answer; add the `length` or `repetition` grader as a penalty.",
        run=repetition_and_length,
    ),
    Probe(
        name="unicode",
        family="text",
        why="After NFKC, int() reads 4\u00b2 as 42, and an equal answer in another encoding may count as wrong.",
        how="Superscripts, right-to-left marks and look-alike letters; decomposed accents, the Unicode minus, no-break "
        "spaces.",
        threshold="fails if a superscript or reversed answer earns more than half; warns if look-alikes are paid or "
        "equal answers are not",
        remedy="Normalise with NFC instead of NFKC, and check digits with isdecimal().",
        run=unicode,
    ),
    Probe(
        name="reasoning leak",
        family="text",
        why="A grader that searches the whole completion pays for a right answer in the thinking and a wrong final "
        "one.",
        how="The reference inside <think>: followed by a wrong answer, unclosed, at the end, or opened twice.",
        threshold="fails if any earns more than 10% of full marks (50% if the grader gives partial credit)",
        remedy="Grade rft.grading.final_answer(completion).",
        run=reasoning_leak,
    ),
    Probe(
        name="truncation",
        family="text",
        why="Completions are cut at max_completion_tokens. If a prefix is paid, the model learns to reach the limit.",
        how="A completion that ends in the middle of the reference.",
        threshold="fails if any earns more than 10% of full marks (full marks if the grader gives partial credit)",
        remedy="Compare the whole answer, or read rollout.stop.",
        run=truncation,
    ),
)
