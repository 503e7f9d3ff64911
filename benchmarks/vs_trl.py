"""Compares rft with TRL's GRPOTrainer: the time of a step on equal samples, and rewards after equal numbers of samples.

    python benchmarks/vs_trl.py tiny                        one scenario, three rounds
    python benchmarks/vs_trl.py tiny medium judge_500ms     several scenarios
    python benchmarks/vs_trl.py tiny --tune                 the time of many options of both sides
    python benchmarks/vs_trl.py tiny --seeds 5 --steps 40   rewards of both sides, seed by seed

Each arm runs in a fresh process, and the arms take turns. Gates check that all did the same work: base model, first
adapter, tasks, prompts, samples, tokens, LoRA, learning rate, rewards. If a gate fails, the benchmark ends with exit
code 1. TRL runs with its own `generate` and with colocated vLLM; rft is compared with the faster of the two.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness import gates, models, report
from harness.arms import Arm, ArmFailed, Job, Outcome, run_arm, taking_turns

TIMEOUT_S = 1800.0
VLLM = {"use_vllm": True, "vllm_mode": "colocate", "vllm_push": "reload_weights"}
"""TRL with vLLM in its process. TRL's own push of weights fails on a CPU, so `trl_arm.py` replaces it."""
NO_CORRECTION = {"vllm_importance_sampling_correction": False}
"""Spares TRL the forward pass for old log-probabilities, and leaves vLLM's deviations uncorrected."""
MERGED = {"sampler.serve": "merged"}
STATIC = {"cache_implementation": "static"}


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A job and its arms."""

    job: Job
    trl: Sequence[Arm]
    """TRL's arms, each with its best options."""
    rft: Sequence[Arm]
    """rft's arms."""


def scenarios(folder: Path) -> dict[str, Scenario]:
    """Return all scenarios by name. Generated models go into `folder`."""
    tiny = Job(name="tiny", model=models.TINY, tasks=models.SUMS, score="answer", steps=16, warm_up_steps=5)
    medium = replace(
        tiny,
        name="medium",
        model=folder / "medium",
        score="digits",
        steps=7,
        warm_up_steps=2,
        max_completion_tokens=256,
        max_context_tokens=384,
        learning_rate=1e-4,
    )
    trl = [
        arm("TRL, generate", num_threads=2),
        arm("TRL, vLLM colocated", num_threads=2, **VLLM),
        arm("TRL, vLLM, no correction", num_threads=2, **VLLM, **NO_CORRECTION),
    ]
    trl_medium = [arm(one.name, **one.options, per_device_train_batch_size=16) for one in trl]
    rft_medium = [rft_arm("rft", **MERGED), rft_arm("rft, staleness 1", **MERGED, **{"loop.staleness": 1})]
    # With this small model, the engine gains nothing from a second thread, and one pass for all completions is fastest.
    best = {"sampler.num_threads": 1, "learner.completions_per_micro_batch": 64}
    rft = [rft_arm(one.name, **one.options, **best) for one in rft_medium]
    return {
        "tiny": Scenario(job=tiny, trl=trl, rft=rft),
        "medium": Scenario(job=medium, trl=trl_medium, rft=rft_medium),
        **{
            f"judge_{delay_ms}ms": Scenario(
                job=replace(tiny, name=f"judge_{delay_ms}ms", delay_s=delay_ms / 1000, steps=6, warm_up_steps=2),
                trl=[trl[0], *(arm(f"{one.name}, async rewards", **one.options, grading="all_at_once") for one in trl)],
                rft=[*rft, rft_arm("rft, staleness 2", **{**rft[1].options, "loop.staleness": 2})],
            )
            for delay_ms in (50, 500)
        },
    }


def arm(name: str, **options: Any) -> Arm:
    """Return an arm of TRL."""
    return Arm(name=name, side="trl", options=options)


def rft_arm(name: str, **options: Any) -> Arm:
    """Return an arm of rft."""
    return Arm(name=name, side="rft", options=options)


def tuning_arms() -> list[Arm]:
    """Return arms with options that may make either side faster, one by one and together."""
    arms = []
    for threads in (1, 2):
        for micro_batch in (16, 64):
            of_batch = f"{threads} thread(s), micro-batch {micro_batch}"
            size = {"num_threads": threads, "per_device_train_batch_size": micro_batch}
            arms.append(arm(f"TRL, generate, {of_batch}", **size))
            arms.append(arm(f"TRL, generate, static cache, {of_batch}", **size, **STATIC))
            ours = MERGED | {"sampler.num_threads": threads, "learner.num_threads": threads}
            arms.append(rft_arm(f"rft, {of_batch}", **ours, **{"learner.completions_per_micro_batch": micro_batch}))
        arms.append(arm(f"TRL, vLLM, {threads} thread(s)", num_threads=threads, **VLLM))
        arms.append(arm(f"TRL, vLLM, {threads} thread(s), no correction", num_threads=threads, **VLLM, **NO_CORRECTION))
    return arms


def measure(arms: Sequence[Arm], job: Job, repeats: int, folder: Path) -> dict[str, list[Outcome]]:
    """Return the outcomes of every arm, one per round."""
    outcomes: dict[str, list[Outcome]] = {arm.name: [] for arm in arms}
    for repeat, one in taking_turns(arms, repeats):
        steps = job.steps + cool_down(one)
        place = folder / job.name / f"{repeat}-{len(outcomes[one.name])}-{arms.index(one)}"
        outcome = run_arm(one, replace(job, steps=steps), place, timeout_s=TIMEOUT_S)
        outcomes[one.name].append(outcome)
        mean_s = report.step_s(outcome, job, cool_down(one))
        print(
            f"{job.name}, round {repeat}: {one.name}: {mean_s:.3f} s per step, "
            f"other work {outcome.other_cores:.2f} cores",
            flush=True,
        )
    return outcomes


def cool_down(one: Arm) -> int:
    """Return the number of last steps that are not timed, because no sampling runs beside them."""
    return int(one.options.get("loop.staleness", 0))


def check(outcomes: Mapping[str, Sequence[Outcome]], job: Job, arms: Sequence[Arm]) -> None:
    """End the benchmark if the arms did not do the same work."""
    kept = [_first_steps(outcome, job.steps) for of_arm in outcomes.values() for outcome in of_arm]
    if problems := gates.failures(kept, job):
        raise SystemExit("the arms cannot be compared:\n" + "\n".join(f"  - {problem}" for problem in problems))


def _first_steps(outcome: Outcome, steps: int) -> Outcome:
    return replace(
        outcome,
        tokens=outcome.tokens[:steps],
        rewards=outcome.rewards[:steps],
        tasks=outcome.tasks[:steps],
        ended_s=outcome.ended_s[: steps + 1],
        phases_s=outcome.phases_s[:steps],
        prompts=outcome.prompts[:steps],
    )


def rows(scenario: Scenario, outcomes: Mapping[str, Sequence[Outcome]]) -> list[list[str]]:
    """Return a scenario's rows of the table: every arm against TRL's fastest arm."""
    job = scenario.job
    arms = [*scenario.trl, *scenario.rft]
    times = {one.name: [report.step_s(outcome, job, cool_down(one)) for outcome in outcomes[one.name]] for one in arms}
    fastest = min((one.name for one in scenario.trl), key=lambda name: statistics.median(times[name]))
    return [
        [
            job.name,
            one.name,
            report.spread(times[one.name]),
            report.spread(report.ratios(times[fastest], times[one.name]), 2),
            report.phase_cell(report.phases(outcomes[one.name], job.warm_up_steps)),
            f"{max(outcome.other_cores for outcome in outcomes[one.name]):.2f}",
        ]
        for one in arms
    ]


def tune(names: Sequence[str], known: Mapping[str, Scenario], parts: Sequence[str] | None, folder: Path) -> None:
    """Time the options of both sides on each scenario and print them, fastest first."""
    for name in names:
        job = replace(known[name].job, steps=known[name].job.warm_up_steps + 3)
        times: dict[str, float] = {}
        for number, one in enumerate(one for one in tuning_arms() if is_selected(one, parts)):
            outcome = run_arm(one, job, folder / "tune" / f"{name}-{number}", timeout_s=TIMEOUT_S)
            times[one.name] = report.step_s(outcome, job)
            seconds = report.phase_cell(report.phases([outcome], job.warm_up_steps))
            print(
                f"{name}: {one.name}: {times[one.name]:.3f} s ({seconds}), other work {outcome.other_cores:.2f} cores",
                flush=True,
            )
        print(
            report.table(
                ["options", f"step of {name}, s"],
                [[n, f"{times[n]:.3f}"] for n in sorted(times, key=times.__getitem__)],
            )
        )


def compare_seeds(scenario: Scenario, num_seeds: int, folder: Path) -> None:
    """Train both sides with each seed; print the mean rewards of the last quarter and their difference."""
    ours, theirs = scenario.rft[0], scenario.trl[0]
    ends: dict[str, list[float]] = {ours.name: [], theirs.name: []}
    table = []
    for seed in range(num_seeds):
        job = replace(scenario.job, seed=seed)
        outcomes = {
            one.name: [run_arm(one, job, folder / f"seed-{seed}-{one.side}", timeout_s=TIMEOUT_S)]
            for one in ((ours, theirs) if seed % 2 else (theirs, ours))
        }
        kept = [outcomes[ours.name][0], outcomes[theirs.name][0]]
        # Rewards are compared below, over all seeds. Lengths change as the policy learns.
        if problems := [p for p in gates.failures(kept, job, learns=False) if not p.startswith("tokens")]:
            raise SystemExit("\n".join(problems))
        for one in (ours, theirs):
            ends[one.name].append(last_quarter(outcomes[one.name][0]))
        table.append([str(seed), f"{ends[ours.name][-1]:.3f}", f"{ends[theirs.name][-1]:.3f}"])
        print(f"seed {seed}: rft {table[-1][1]}, TRL {table[-1][2]}", flush=True)
    parity = gates.parity(ends[ours.name], ends[theirs.name])
    print("\n" + report.table(["seed", "rft", "TRL"], table))
    print(
        f"\nrft - TRL: {parity['difference']:+.3f} [{parity['low']:+.3f}, {parity['high']:+.3f}], "
        f"p = {parity['p']:.2f} (paired t-test over seeds)"
    )
    if parity["p"] < 0.01:
        raise SystemExit("the rewards of the two sides differ by more than chance explains")


def last_quarter(outcome: Outcome) -> float:
    """Return the mean reward of the last quarter of the steps."""
    late = outcome.rewards[-max(1, len(outcome.rewards) // 4) :]
    return statistics.fmean(reward for step in late for group in step for reward in group)


def main() -> None:
    """Run the scenarios of the command line, and print Markdown tables."""
    with tempfile.TemporaryDirectory(prefix="rft-vs-trl-") as temporary:
        folder = Path(temporary)
        known = scenarios(folder)
        parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("scenarios", nargs="*", default=["tiny"], help=f"any of {', '.join(known)}; default: tiny")
        parser.add_argument("--repeats", type=int, default=3, help="rounds; in each, every arm runs once (default: 3)")
        parser.add_argument("--steps", type=int, help="steps of each run, including warm-up (default: the scenario's)")
        parser.add_argument("--arms", nargs="+", help="only arms whose names contain one of these words")
        parser.add_argument("--tune", action="store_true", help="time the options of both sides instead")
        parser.add_argument("--seeds", type=int, help="compare the rewards of this number of seeds instead")
        given = parser.parse_args()
        if unknown := [name for name in given.scenarios if name not in known]:
            parser.error(f"no such scenario: {', '.join(unknown)}; there are {', '.join(known)}")
        print(f"{report.machine()}\n", flush=True)
        try:
            run(given, known, folder)
        except ArmFailed as failure:
            raise SystemExit(str(failure)) from None


def run(given: argparse.Namespace, known: Mapping[str, Scenario], folder: Path) -> None:
    """Run the scenarios with the options of the command line."""
    if "medium" in given.scenarios:
        models.make_medium(folder / "medium")
    if given.tune:
        tune(given.scenarios, known, given.arms, folder)
        return
    lines: list[list[str]] = []
    for name in given.scenarios:
        scenario = known[name]
        if given.steps:
            scenario = replace(scenario, job=replace(scenario.job, steps=given.steps))
        if given.seeds:
            compare_seeds(scenario, given.seeds, folder)
            continue
        chosen = [one for one in (*scenario.trl, *scenario.rft) if is_selected(one, given.arms)]
        outcomes = measure(chosen, scenario.job, given.repeats, folder)
        check(outcomes, scenario.job, chosen)
        kept = replace(
            scenario, trl=[o for o in scenario.trl if o in chosen], rft=[o for o in scenario.rft if o in chosen]
        )
        lines += rows(kept, outcomes)
    if lines:
        print(
            "\n"
            + report.table(["job", "arm", "step, s", "TRL's step / this step", "phases, s", "others, cores"], lines)
        )


def is_selected(one: Arm, parts: Sequence[str] | None) -> bool:
    """Whether the command line selects an arm."""
    return parts is None or any(part == one.name or part in one.name for part in parts)


if __name__ == "__main__":
    main()
