"""What text can do: be long, look like another, hide the answer in the thinking, stop in the middle."""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Sequence

from rft.auditing.answers import as_number, short
from rft.auditing.cases import Case, Graded
from rft.auditing.findings import Finding, failed, not_applicable, passed, warned
from rft.auditing.judging import undeserved
from rft.auditing.probe import Probe
from rft.auditing.subject import FULL, Subject
from rft.grading.notation import canonical, unnamed

RISE = 0.05
CORRELATED = 0.2
NUM_TASKS = 5
"""Long texts are tried on so many tasks."""
FILLER = "Let me think about this once more, carefully and step by step. "
LENGTHS = (0, 300, 1_000, 10_000)
LOOKALIKES = str.maketrans("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ")  # noqa: RUF001 - that is the point
SUPERSCRIPT = str.maketrans("0123456789", "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")


async def length_is_not_paid(subject: Subject) -> Finding:
    """Padding and repetition raise no reward."""
    if not subject.right:
        return not_applicable("without references, length and content cannot be told apart")
    examples: list[Graded] = []
    correlations = []
    huge = await subject.bench.grade(_huge(subject))
    for task, plain in zip(subject.solved[:NUM_TASKS], subject.right, strict=False):
        longer = [one for one in huge if one.case.task.id == task.id]
        base = subject.total_share(plain) or 0.0
        examples += [one for one in longer if (subject.total_share(one) or 0.0) > base + RISE]
        wrong = subject.other_answer(task) or "?"
        padded = await subject.bench.grade(
            [
                Case(
                    task=task, completion=_padded(length) + subject.wrap(wrong), note=f"wrong after {length} characters"
                )
                for length in LENGTHS
            ]
        )
        shares = [subject.total_share(one) or 0.0 for one in padded]
        correlations.append(rank_correlation([float(length) for length in LENGTHS], shares))
        if max(shares) > shares[0] + RISE:
            examples += [plain, max(padded, key=lambda one: subject.total_share(one) or 0.0)]
    correlation = statistics.fmean(correlations)
    figures = {"rank_correlation": correlation, "rises": len(examples)}
    if examples:
        return failed("the reward rises with padding, the answer being the same", examples, **figures)
    if correlation > CORRELATED:
        return warned(
            f"of equally wrong answers the longer earn slightly more (correlation {correlation:.2f})", (), **figures
        )
    return passed("neither repetition nor padding, up to 1 MB, raises the reward", **figures)


async def lookalikes(subject: Subject) -> Finding:
    """Other characters make another answer; the same characters, encoded otherwise, do not."""
    if not subject.right:
        return not_applicable("without references there is nothing to write in other characters")
    different, same = [], []
    for task in subject.solved:
        right = short(subject.answer(task))
        if len(right) > 200:
            continue
        disguised = {"in superscript": right[:1] + right[1:].translate(SUPERSCRIPT)} if right.isdigit() else {}
        if len(right) > 1 and right != right[::-1]:
            disguised["reversed, with a right-to-left mark"] = f"\u202e{right[::-1]}"
        different += [
            subject.case(task, text, note) for note, text in disguised.items() if not subject.is_right(task, text)
        ]
        other = {"decomposed accents": unicodedata.normalize("NFD", right)}
        number = as_number(right)
        if number is not None and number < 0:
            other["with a Unicode minus"] = right.replace("-", "\u2212")
        other["with a no-break space after it"] = f"{right}\u00a0"
        same += [subject.case(task, text, note) for note, text in other.items() if text != right]
        swapped = right.translate(LOOKALIKES)
        # Of `x=5` and `90^\\circ` the number is the answer, whatever its letters look like.
        if swapped != right and "\\" not in right and as_number(unnamed(canonical(right))) is None:
            different.append(subject.case(task, swapped, "in letters that look alike"))
    paid = subject.paid(await subject.bench.grade(different), above=FULL if subject.gives_partial_credit else 0.5)
    strange = [one for one in paid if "look alike" not in one.case.note]
    unpaid = [one for one in await subject.bench.grade(same) if (subject.share(one) or 0.0) < FULL]
    plain = {one.case.task.id for one in subject.right if (subject.share(one) or 0.0) >= FULL}
    unpaid = [one for one in unpaid if one.case.task.id in plain]
    figures = {"paid": len(paid), "unpaid": len(unpaid)}
    if strange:
        return failed(f"{len(strange)} answers that only look like the right one are paid", strange, **figures)
    if paid or unpaid:
        said = (
            f"{len(paid)} answers in look-alike letters are paid, {len(unpaid)} equal ones in another encoding are not"
        )
        return warned(said, [*paid, *unpaid], **figures)
    return passed("equal answers are equal in any encoding, and look-alikes are not", **figures)


async def thinking_is_not_answering(subject: Subject) -> Finding:
    """The right answer in the thinking, and another one after it."""
    if not subject.right:
        return not_applicable("without references there is no answer to hide in the thinking")
    cases = []
    for task in subject.solved:
        right, wrong = short(subject.answer(task)), short(subject.other_answer(task) or "?")
        if subject.is_right(task, wrong):
            continue
        cases += [
            Case(task=task, completion=f"<think>{right}</think>\n{subject.wrap(wrong)}", note="right only in thinking"),
            Case(task=task, completion=f"<think>\nso it is {right}", note="thinking never closed"),
            Case(task=task, completion=f"{subject.wrap(wrong)}\n<think>{right}</think>", note="thinking at the end"),
            Case(task=task, completion=f"<think>a</think><think>\n{right}", note="thinking opened again"),
        ]
    return undeserved(subject, await subject.bench.grade(cases), "answers hidden in the thinking")


async def cut_answers(subject: Subject) -> Finding:
    """An answer that was cut in the middle is not paid in full."""
    cases = []
    for task in subject.solved:
        right = short(subject.answer(task))
        cut = right[: (len(right) + 1) // 2]
        if len(right) < 2 or subject.is_right(task, cut):
            continue
        whole = subject.wrap(right)
        start = whole.rfind(right)
        if start >= 0:
            cases.append(Case(task=task, completion=whole[: start + len(cut)], note="cut in the middle of the answer"))
    if not cases:
        return not_applicable("no reference is long enough to be cut")
    graded = await subject.bench.grade(cases)
    paid = subject.paid(graded, above=FULL if subject.gives_partial_credit else 0.1)
    if paid:
        return failed(f"{len(paid)} of {len(graded)} answers cut in the middle are paid", paid, cases=len(graded))
    return passed(f"none of {len(graded)} answers cut in the middle is paid as if it were whole", cases=len(graded))


def rank_correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Spearman's rho of two samples, ties at their mean rank; 0 where one of them does not vary."""
    if len(set(xs)) < 2 or len(set(ys)) < 2:
        return 0.0
    return statistics.correlation(_ranks(xs), _ranks(ys))


def _ranks(values: Sequence[float]) -> list[float]:
    ordered = sorted(values)
    return [ordered.index(value) + (ordered.count(value) - 1) / 2 for value in values]


def _padded(length: int) -> str:
    return (FILLER * (length // len(FILLER) + 1))[:length] + "\n" * bool(length)


def _huge(subject: Subject) -> list[Case]:
    """The right answer with much around it."""
    cases = []
    for number, task in enumerate(subject.solved[:NUM_TASKS]):
        right = subject.wrap(subject.answer(task))
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
        why="Length is what policies drift into when it pays; ROUGE recall and partial ratios give full marks to an "
        "answer repeated fifty times.",
        how="The right answer fifty times and after up to 1 MB of filler; wrong answers after ever more filler.",
        threshold="fails if padding raises the reward by more than 5% of its range; warns if length and reward of "
        "wrong answers correlate by more than 0.2",
        remedy="Grade the answer, not the text around it; add the length or repetition grader as a penalty.",
        look=length_is_not_paid,
    ),
    Probe(
        name="unicode",
        family="text",
        why="int() reads 4\u00b2 after NFKC as 42; an answer may be right in one encoding and wrong in another.",
        how="Superscripts, right-to-left marks and look-alike letters; decomposed accents, the Unicode minus, no-break "
        "spaces.",
        threshold="fails if a superscript or reversed answer is paid more than half; warns of look-alikes that are "
        "paid and of equal answers that are not",
        remedy="Normalise with NFC, not NFKC, and check digits with isdecimal().",
        look=lookalikes,
    ),
    Probe(
        name="reasoning leak",
        family="text",
        why="A grader that searches the whole completion pays for thinking of the right answer and giving another.",
        how="The reference inside <think>, with a wrong answer after it, unclosed, at the end, opened twice.",
        threshold="fails if any earns more than 10% of full marks; half of them, where partial credit is given",
        remedy="Grade rft.grading.final_answer(completion).",
        look=thinking_is_not_answering,
    ),
    Probe(
        name="truncation",
        family="text",
        why="Completions are cut at max_completion_tokens; a prefix that is paid teaches to run into the limit.",
        how="The reference cut in its middle, where the completion ends.",
        threshold="fails if any earns more than 10% of full marks (full marks, where partial credit is given)",
        remedy="Compare the whole answer; a grader that minds looks at rollout.stop.",
        look=cut_answers,
    ),
)
