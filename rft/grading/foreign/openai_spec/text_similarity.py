r"""text_similarity: the similarity of two texts, 0 to 1. OpenAI documents no settings; rft has fixed ones.

    metric        library, settings                                                 words
    fuzzy_match   rapidfuzz `fuzz.ratio` / 100; no processor, case counts           -
    bleu          sacrebleu sentence BLEU: effective order (a text shorter than     sacrebleu's 13a, case counts
                  four words is measured by the n-grams that it has), smoothing `exp`
    gleu          nltk `sentence_gleu`, n-grams of 1 to 4 words                     the same
    meteor        nltk METEOR, alpha 0.9, beta 3, gamma 0.5; words match if equal   the same, lower case
                  or of equal Porter stem; no synonyms, as WordNet is a download
    rouge_1..5    rouge-score, F1 of n-grams, no stemming; n is lowered to the      runs of letters and digits of
                  number of words in the reference                                  any alphabet, lower case
    rouge_l       F1 of the longest common subsequence, by rapidfuzz                the same
    cosine        cosine of the embeddings by `text-embedding-3-large`, not         -
                  below 0

`fuzz.ratio` and F1 are used because laxer metrics (WRatio, recall) pay for an answer repeated fifty times. Texts that
are equal, or have the same words for the metric, score 1: METEOR alone would give 0.5 to an answer of one word. Empty
references and texts longer than `MAX_CHARS` cannot be compared; they are a fault of the model if they come from the
completion.
"""

from __future__ import annotations

import asyncio
import functools
import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rft.grading.foreign.openai_spec.faults import Fault, Flag
from rft.grading.foreign.openai_spec.outcome import Case, Outcome, Services
from rft.grading.foreign.openai_spec.spec import TextSimilarity
from rft.grading.foreign.openai_spec.templates import Template
from rft.types import Status

MAX_CHARS = 50_000
"""Maximum length of a text."""
MAX_METEOR_WORDS = 2_000
"""Maximum length of a text for METEOR, whose time grows with the product of both lengths."""
EMBEDDING_MODEL = "text-embedding-3-large"
"""The model of embeddings for `cosine`."""

_IMPORTING = threading.Lock()
"""nltk, which rouge-score imports as well, breaks if two threads import it for the first time."""
_IMPORTED: set[str] = set()
"""The metrics whose libraries are installed."""
_ROUGE_WORD = re.compile(r"[^\W_]+")


async def grade(spec: TextSimilarity, case: Case, services: Services) -> Outcome:
    """Compare the two texts.

    Raises:
        Fault: A variable is missing, a text is too long, the reference is empty, or the embeddings are missing.
    """
    text = spec.input.render(case.sample, case.item)
    reference = spec.reference.render(case.sample, case.item)
    for template, rendered, name in ((spec.input, text, "input"), (spec.reference, reference, "reference")):
        if len(rendered) > MAX_CHARS:
            raise _unusable(template, f"the {name} has {len(rendered)} characters; the limit is {MAX_CHARS}")
    if not reference:
        raise _unusable(spec.reference, "the reference is empty")
    if text == reference:
        return Outcome(value=1.0)
    if spec.evaluation_metric == "cosine":
        return await _cosine(text, reference, services)
    # In a thread: the first call imports the library, and long texts take time.
    return await asyncio.to_thread(_compare, spec, text, reference)


def _compare(spec: TextSimilarity, text: str, reference: str) -> Outcome:
    with _IMPORTING:
        if spec.evaluation_metric not in _IMPORTED:
            METRICS[spec.evaluation_metric]("one text", "another text")
            _IMPORTED.add(spec.evaluation_metric)
    if spec.evaluation_metric == "meteor" and max(len(_words(text)), len(_words(reference))) > MAX_METEOR_WORDS:
        longer = spec.input if len(_words(text)) > MAX_METEOR_WORDS else spec.reference
        raise _unusable(longer, f"the limit of METEOR is {MAX_METEOR_WORDS} words")
    return Outcome(value=min(1.0, max(0.0, METRICS[spec.evaluation_metric](text, reference))))


def fuzzy_match(text: str, reference: str) -> float:
    """Return rapidfuzz's ratio."""
    from rapidfuzz import fuzz

    return float(fuzz.ratio(text, reference)) / 100


def bleu(text: str, reference: str) -> float:
    """Return sacrebleu's sentence BLEU."""
    from sacrebleu.metrics.bleu import BLEU

    # The library reports 100.00000000000004 for equal words.
    return (
        float(BLEU(effective_order=True, smooth_method="exp", tokenize="13a").sentence_score(text, [reference]).score)
        / 100
    )


def gleu(text: str, reference: str) -> float:
    """Return nltk's Google BLEU."""
    from nltk.translate.gleu_score import sentence_gleu

    words = _words(text)
    return float(sentence_gleu([_words(reference)], words)) if words else 0.0


def meteor(text: str, reference: str) -> float:
    """Return nltk's METEOR, without synonyms."""
    from nltk.translate.meteor_score import single_meteor_score

    words, expected = _words(text), _words(reference)
    if [word.lower() for word in words] == [word.lower() for word in expected]:
        return 1.0
    return float(single_meteor_score(expected, words, wordnet=_NoSynonyms()))


def rouge_n(text: str, reference: str, *, n: int) -> float:
    """Return ROUGE-n's F1."""
    from rouge_score.rouge_scorer import RougeScorer

    metric = f"rouge{max(1, min(n, len(_rouge_words(reference))))}"
    return float(RougeScorer([metric], tokenizer=_RougeTokenizer()).score(reference, text)[metric].fmeasure)


def rouge_l(text: str, reference: str) -> float:
    """Return ROUGE-L's F1; rouge-score's implementation takes seconds for long texts."""
    from rapidfuzz.distance import LCSseq

    words, expected = _rouge_words(text), _rouge_words(reference)
    common = LCSseq.similarity(words, expected)
    return 2 * common / (len(words) + len(expected)) if common else 0.0


METRICS: Mapping[str, Callable[[str, str], float]] = {
    "fuzzy_match": fuzzy_match,
    "bleu": bleu,
    "gleu": gleu,
    "meteor": meteor,
    **{f"rouge_{n}": functools.partial(rouge_n, n=n) for n in range(1, 6)},
    "rouge_l": rouge_l,
}
"""The metrics without a model: (text, reference) to a number from 0 to 1."""


async def _cosine(text: str, reference: str, services: Services) -> Outcome:
    from rft.grading.clients.model_client import ModelCallError

    if not text:  # endpoints reject the empty text
        return Outcome(value=0.0, model=EMBEDDING_MODEL)
    try:
        a, b = await services.model(EMBEDDING_MODEL).embed([text, reference])
    except ModelCallError as error:
        raise Fault(Flag.MODEL_GRADER_SERVER_ERROR, str(error)) from error
    norms = math.hypot(*a) * math.hypot(*b)
    value = _dot(a, b) / norms if norms else math.nan
    if not math.isfinite(value):
        raise Fault(Flag.MODEL_GRADER_SERVER_ERROR, "an embedding is zero or not finite")
    return Outcome(value=min(1.0, max(0.0, value)), model=EMBEDDING_MODEL)


def _dot(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _unusable(template: Template, detail: str) -> Fault:
    """Attribute a fault to the model if it wrote the text, otherwise to the task."""
    if template.uses_sample:
        return Fault(Flag.SAMPLE_PARSE_ERROR, detail, Status.INVALID_OUTPUT)
    return Fault(Flag.OTHER_ERROR, detail)


def _words(text: str) -> list[str]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    words: str = Tokenizer13a()(text)
    return words.split()


def _rouge_words(text: str) -> list[str]:
    return _ROUGE_WORD.findall(text.lower())


class _RougeTokenizer:
    """Tokenizes every alphabet; rouge-score's tokenizer keeps only a-z and 0-9, so two Greek texts share no word."""

    def tokenize(self, text: str) -> list[str]:
        return _rouge_words(text)


class _NoSynonyms:
    """A replacement for WordNet without any words."""

    def synsets(self, word: str, *_: Any) -> list[Any]:
        return []
