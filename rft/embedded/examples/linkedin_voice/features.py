"""Features of the house's voice, which a program can count: openings, sentence length, asides, stock phrases."""

from __future__ import annotations

import re
from collections.abc import Mapping

STOCK = (
    "excited", "thrilled", "delighted", "proud to", "honored", "honoured", "humbled", "game-changer", "game changer",
    "cutting-edge", "seamless", "unlock", "leverage", "journey", "passionate", "world-class", "revolutionary",
    "stay tuned", "big news", "innovative", "at the heart of", "in today's",
)  # fmt: skip
"""Phrases of company posts that the house does not use."""

FLOORS: Mapping[str, float] = {
    "opening_words": 1.5,
    "sentence_words": 1.5,
    "longest_sentence_words": 4.0,
    "paragraphs": 0.75,
    "asides": 0.3,
    "closing_aside": 0.5,
    "shouts": 0.25,
    "we_share": 0.015,
    "long_word_share": 0.03,
    "common_share": 0.04,
    "repeated_share": 0.02,
}
"""Lowest standard deviation of each feature. The house never shouts, so the deviation of its posts is 0 there."""

_WORD = re.compile(r"[\w'\u2019-]+")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\s)]+|\n+")
_ASIDE = re.compile(r"\([^()\n]{3,160}\)")
_EMOJI = re.compile("[\u2190-\u21ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff]")
_OURS = frozenset({"we", "our", "ours", "us"})
_COMMON_WORDS = (
    "the a an and or but of to in on at for with from by as it its is are was were be been has have had that this "
    "which who what when where not no so if than then we our us you your they them their he she his her one all more"
)
_COMMON = frozenset(_COMMON_WORDS.split())
_LONG = 9
"""Letters of a long word."""


def features_of(post: str) -> dict[str, float] | None:
    """Return the features of a post without hashtags and trailer; None for a text without words.

    Numbers of words and paragraphs are counts, `..._share` is a part of all words, from 0 to 1.
    """
    words = _WORD.findall(post.casefold())
    sentences = [len(_WORD.findall(part)) for part in _SENTENCE_END.split(post)]
    sentences = [length for length in sentences if length]
    paragraphs = [part for part in re.split(r"\n\s*\n", post) if part.strip()]
    if not words or not paragraphs:
        return None
    low = post.casefold()
    runs = list(zip(words, words[1:], words[2:], strict=False))
    return {
        "opening_words": float(len(_WORD.findall(paragraphs[0].strip()))),
        "sentence_words": len(words) / len(sentences),
        "longest_sentence_words": float(max(sentences)),
        "paragraphs": float(len(paragraphs)),
        "asides": float(len(_ASIDE.findall(post))),
        "closing_aside": float(bool(re.search(r"\([^()\n]{3,160}\)\W*\Z", post.rstrip()))),
        "shouts": float(post.count("!") + len(_EMOJI.findall(post)) + sum(phrase in low for phrase in STOCK)),
        "we_share": sum(word in _OURS for word in words) / len(words),
        "long_word_share": sum(len(word) >= _LONG for word in words) / len(words),
        "common_share": sum(word in _COMMON for word in words) / len(words),
        "repeated_share": 1 - len(set(runs)) / len(runs) if runs else 0.0,
    }
