"""The list of places that behave otherwise on a GPU is complete."""

from functools import cache
from pathlib import Path

from gpu.branches import NOT_RUN, RUN_BY, covers, find_branches
from gpu.plans import PLANS

ROOT = Path(__file__).parents[2]


@cache
def places() -> list[str]:
    return find_branches(ROOT)


def test_every_place_has_a_part_or_a_reason() -> None:
    keys = [*RUN_BY, *NOT_RUN]
    missing = [place for place in places() if not any(covers(key, place) for key in keys)]
    assert not missing, (
        f"{', '.join(missing)}: new code for GPUs; name the part that runs it in RUN_BY of benchmarks/gpu/branches.py, "
        "or the reason why none does in NOT_RUN"
    )


def test_every_entry_covers_a_place() -> None:
    empty = [key for key in (*RUN_BY, *NOT_RUN) if not any(covers(key, place) for place in places())]
    assert not empty, f"{', '.join(empty)} name nothing of GPUs; remove them"


def test_no_place_has_both() -> None:
    both = [
        place
        for place in places()
        if any(covers(key, place) for key in RUN_BY) and any(covers(key, place) for key in NOT_RUN)
    ]
    assert both == []


def test_the_parts_exist() -> None:
    names = {part.name for parts, _ in PLANS.values() for part in parts}
    assert {name for parts in RUN_BY.values() for name in parts} - names == set()


def test_names_count_but_messages_and_documentation_do_not(tmp_path: Path) -> None:
    (tmp_path / "rft").mkdir()
    (tmp_path / "rft" / "a.py").write_text(
        '"""Of cuda."""\n'
        "from x import num_gpus\n"
        "class A:\n"
        '    def f(self):\n        """cuda"""\n        return "without cuda"\n'
        '    async def g(self, device="cuda"):\n        return AsyncClient\n'
        "def h(spec):\n    if spec.on_gpu:\n        return 1\n"
        'LIMITS = {"bfloat16": 1}\n'
    )
    assert find_branches(tmp_path) == ["rft/a.py:A.g", "rft/a.py:h", "rft/a.py"]
