"""Importing large libraries."""

import gc

import pytest

from rft.imports import large_imports


@pytest.fixture(autouse=True)
def _unfrozen() -> object:
    yield
    gc.unfreeze()


def test_nothing_is_collected_meanwhile_and_what_was_made_is_passed_over_later() -> None:
    gc.unfreeze()
    with large_imports():
        assert not gc.isenabled()
        made = [[number] for number in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= len(made)
    assert not any(found is made for found in gc.get_objects())


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with large_imports():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_comes_back_after_a_failed_import() -> None:
    with pytest.raises(ModuleNotFoundError), large_imports():
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401
    assert gc.isenabled()
