"""Errors cross from one Ray process to another by pickle, and decide the exit code."""

import inspect
import pickle

import pytest

from rft import errors
from rft.errors import ConfigError, RftError, UsageError, WaitTimeout

CLASSES = [
    value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, RftError)
]  # as they are, so that a new one is tried as well


def make(kind: type[RftError]) -> RftError:
    if kind is WaitTimeout:
        return WaitTimeout("the learner's step", 1.5)
    if issubclass(kind, UsageError):
        return kind("configuration", ["one is wrong", "two is wrong"])
    return kind("what went wrong")


@pytest.mark.parametrize("kind", CLASSES)
def test_pickle_keeps_everything(kind: type[RftError]) -> None:
    error = make(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_exit_codes(kind: type[RftError]) -> None:
    codes = {errors.RayLost: 69, errors.WriteError: 74}
    assert make(kind).exit_code == (2 if issubclass(kind, UsageError) else codes.get(kind, 1))


def test_every_problem_is_a_bullet() -> None:
    error = ConfigError("configuration", ["one is wrong", "two is wrong"])
    assert error.problems == ("one is wrong", "two is wrong")
    assert str(error) == "configuration:\n  - one is wrong\n  - two is wrong"


def test_a_timeout_says_what_was_waited_for() -> None:
    assert str(WaitTimeout("8 completions", 0.5)) == "timed out after 0.5 s waiting for 8 completions"
