"""Write the clause codes of the example `contract_ca`, a language of a few signs for the embedded model.

    python scripts/examples/contract_ca.py

A request names a province or territory and the slots of a clause, one letter each: `BC: CT`. The answer fills them by
the law of the place, `UP`: the Supreme Court and the Provincial Sales Tax. What fills a slot must be learned, as it is
not in the request. The seed is fixed. The clauses themselves are written by hand, and no script makes them.
"""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "rft" / "embedded" / "examples" / "contract_ca"
SEED = 15
PLACES = ("ON", "QC", "BC", "AB", "MB", "SK", "NS", "NB", "YT", "NT")
FILLINGS = {
    "C": dict(zip(PLACES, "SSUKKKUKUU", strict=True)),
    "T": dict(zip(PLACES, "HQPGRPHHGG", strict=True)),
    "P": dict(zip(PLACES, "FOOOFFFFFF", strict=True)),
    "L": dict(zip(PLACES, "CVCCCCCCCC", strict=True)),
}
"""What fills each slot. Court: Superior, sUpreme, King's Bench. Tax: HST, QST, PST, RST, or the GST alone. Privacy: a
federal act or an own one. Law: Common or ciVil."""
SPLITS = {"codes_train": 400, "codes_validation": 40, "codes_test": 200}


def main() -> None:
    """Write all files."""
    forms = [form for size in (1, 2, 3, 4) for form in itertools.permutations(FILLINGS, size)]
    requests = [(code, form) for code in PLACES for form in forms]
    random.Random(SEED).shuffle(requests)
    start = 0
    for name, count in SPLITS.items():
        lines = [json.dumps(_row(*request, name)) for request in requests[start : start + count]]
        (FOLDER / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        start += count


def _row(code: str, form: tuple[str, ...], name: str) -> dict[str, str]:
    answer = "".join(FILLINGS[slot][code] for slot in form)
    row = {"prompt": f"{code}: {''.join(form)}", "answer": answer}
    return row | ({"completion": answer} if name == "codes_train" else {})


if __name__ == "__main__":
    main()
