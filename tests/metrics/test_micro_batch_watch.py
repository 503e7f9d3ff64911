"""The warning of divided micro-batches."""

from rft.metrics.micro_batch_watch import HalvingWatch


def test_one_warning_at_the_first_divided_step() -> None:
    watch = HalvingWatch()
    assert watch.observe({"learner/loss": 0.5}) is None
    warning = watch.observe({"learner/micro_batch_parts": 2.0})
    assert warning is not None
    assert "learner.completions_per_micro_batch" in warning
    assert watch.observe({"learner/micro_batch_parts": 2.0}) is None
