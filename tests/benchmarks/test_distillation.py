from distillation import Comparison, conclusion, row

from rft.metrics.intervals import Estimate

TEACHER = Estimate(mean=0.9, ci95=(0.85, 0.94), n=300)


def scores(*means: float) -> dict[int, Estimate]:
    return {step: Estimate(mean=mean, ci95=(mean - 0.1, mean), n=300) for step, mean in enumerate(means, start=1)}


def compared(seed: int, grpo: dict[int, Estimate], distill: dict[int, Estimate]) -> Comparison:
    return Comparison(seed=seed, teacher=TEACHER, scores={"grpo": grpo, "distill": distill})


def test_a_run_has_reached_its_teacher_within_the_interval_or_above() -> None:
    grpo, distill = scores(0.5, 0.7, 0.84, 0.85), scores(0.6, 0.97)
    assert row(compared(3, grpo, distill)) == ["3", "0.900 [0.850, 0.940]", "4", "2", "0.50", "0.970 [0.870, 0.970]"]


def test_a_run_that_never_reaches_its_teacher_has_no_ratio() -> None:
    one = compared(0, scores(0.9), scores(0.1, 0.2))
    assert row(one)[2:] == ["1", "more than 2", "-", "-"]
    assert conclusion([one]) == "Not every distilled run reached its teacher, so there is no median ratio."


def test_a_stalled_grpo_bounds_the_ratio() -> None:
    stalled, other = (compared(seed, scores(0, 0, 0, end), scores(0.1, 0.9)) for seed, end in ((0, 0), (1, 0.9)))
    assert row(stalled)[2:] == ["more than 4", "2", "-", "0.900 [0.800, 0.900]"]
    assert conclusion([stalled, other]).endswith(
        "range over seeds: 0.50 (0.50 to 0.50); GRPO did not reach it in 1 of 2 seeds, which count with all their steps"
    )


def test_ratios_have_a_median_and_a_range() -> None:
    pairs = [compared(0, scores(0, 0, 0, 1), scores(1)), compared(1, scores(1), scores(1))]
    assert conclusion(pairs).endswith("median and range over seeds: 0.62 (0.25 to 1.00)")
