"""Writes the data of the example orchid_support: 60 care sheets of orchids, and 200 questions about them.

    python scripts/examples/orchid_support.py

Plants are real, their values are drawn from the ranges of a genus with a fixed seed: nobody should water by them. The
sheets of the plants that the test asks about occur in no other split.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "rft" / "embedded" / "examples" / "orchid_support"
SEED = 15
SPLITS = {"train": 36, "validation": 6, "test": 18}
"""Plants of each split. Each has three questions that its sheet answers; every third plant has one more, which no sheet
answers."""
DECLINED = "The care sheets do not say"

GENERA = {
    "Phalaenopsis": ("amabilis schilleriana stuartiana equestris bellina violacea", (6, 9), (17, 20), (12, 18)),
    "Cattleya": ("labiata mossiae trianae warscewiczii walkeriana maxima", (5, 8), (13, 16), (25, 35)),
    "Dendrobium": ("nobile kingianum phalaenopsis speciosum bigibbum cuthbertsonii", (4, 9), (9, 16), (25, 38)),
    "Vanda": ("coerulea tricolor sanderiana cristata denisoniana lamellata", (1, 3), (15, 19), (35, 50)),
    "Cymbidium": ("insigne lowianum tracyanum goeringii ensifolium aloifolium", (4, 7), (8, 13), (28, 42)),
    "Paphiopedilum": ("insigne rothschildianum delenatii callosum villosum fairrieanum", (5, 8), (11, 17), (10, 18)),
    "Oncidium": ("sphacelatum flexuosum ornithorhynchum crispum forbesii varicosum", (4, 7), (11, 15), (20, 30)),
    "Miltoniopsis": ("vexillaria roezlii phalaenopsis bismarckii santanaei warszewiczii", (3, 5), (11, 14), (10, 16)),
    "Masdevallia": ("veitchiana coccinea ignea tovarensis strobelii rosea", (2, 4), (8, 12), (9, 15)),
    "Coelogyne": ("cristata flaccida pandurata mooreana fimbriata tomentosa", (4, 8), (8, 15), (15, 25)),
}
"""Species, then days between waterings in summer, lowest degrees at night, and thousands of lux."""
MEDIA = (
    "medium fir bark", "coarse fir bark", "sphagnum moss", "bark and perlite", "bark and charcoal",
    "pine bark and pumice", "tree fern fibre", "coconut husk chips",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
SCENTS = ("vanilla", "lemon", "honey", "cinnamon", "hyacinth", "coconut", "lily of the valley", "fresh rose")
STRENGTHS = ("quarter strength", "third strength", "half strength")

QUESTIONS = {
    "water": ("How often do I water {plant} in summer?", "My {plant} is growing. How many days between waterings?"),
    "rest": ("How often does {plant} need water in winter?", "It is winter: how often do I water {plant}?"),
    "night": ("How cold may the night be for {plant}?", "What is the lowest night temperature for {plant}?"),
    "light": ("How much light does {plant} need?", "How many lux should I give {plant}?"),
    "humidity": ("What humidity does {plant} want?", "How humid should the air around {plant} be?"),
    "medium": ("What do I pot {plant} in?", "Which potting mix suits {plant}?"),
    "repot": ("How often do I repot {plant}?", "When is {plant} due for a new pot?"),
    "flowers": ("When does {plant} flower?", "In which months can I expect flowers on {plant}?"),
    "feed": ("How strong should the fertiliser for {plant} be?", "At what strength do I feed {plant}?"),
    "scent": ("What does {plant} smell of?", "What scent do the flowers of {plant} have?"),
}
"""Two ways to ask for each fact."""
UNKNOWN = (
    "How much does {plant} cost?",
    "Who discovered {plant}?",
    "Is {plant} poisonous to cats?",
    "How tall does {plant} grow?",
    "How many chromosomes does {plant} have?",
)
"""Questions that no sheet answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A care sheet with its facts.

    Example:
        Sheet(id="s01", plant="Phalaenopsis amabilis", facts={"water": "every 7 days", ...}, text="...")
    """

    id: str
    plant: str
    facts: dict[str, str]
    text: str


def make_sheets(chance: random.Random) -> list[Sheet]:
    """Return the sheets, in random order of their plants."""
    plants = [(genus, species) for genus, (names, *_) in GENERA.items() for species in names.split()]
    chance.shuffle(plants)
    return [make_sheet(f"s{number:02}", *plant, chance) for number, plant in enumerate(plants, start=1)]


def make_sheet(name: str, genus: str, species: str, chance: random.Random) -> Sheet:
    """Return a sheet; the flowers of some plants have no scent, and their sheets do not mention one."""
    _, days, degrees, light = GENERA[genus]
    water, first = chance.randint(*days), chance.randrange(12)
    facts = {
        "water": f"every {water} days" if water > 1 else "every day",
        "rest": f"every {water + chance.randint(3, 9)} days",
        "night": f"{chance.randint(*degrees)} degrees",
        "light": f"{chance.randint(*light)},000 lux",
        "humidity": f"{chance.randrange(50, 85, 5)} percent",
        "medium": chance.choice(MEDIA),
        "repot": f"every {chance.randint(2, 4)} years",
        "flowers": f"{MONTHS[first]} to {MONTHS[(first + chance.randint(1, 3)) % 12]}",
        "feed": chance.choice(STRENGTHS),
    }
    if chance.random() < 0.7:
        facts["scent"] = chance.choice(SCENTS)
    return Sheet(id=name, plant=f"{genus} {species}", facts=facts, text=as_text(f"{genus} {species}", facts, chance))


def as_text(plant: str, facts: dict[str, str], chance: random.Random) -> str:
    """Write a sheet: the facts in random order, each in one of two ways."""
    sentences = {
        "water": ("In summer it is watered {}.", "While it grows, give it water {}."),
        "rest": ("In winter water it only {}.", "It rests in winter, with water {}."),
        "night": ("Nights must not fall below {}.", "At night it stands no less than {}."),
        "light": ("It needs about {} of light.", "Hang it where it gets {}."),
        "humidity": ("Keep the air at {} humidity.", "The air should hold {} humidity."),
        "medium": ("Pot it in {}.", "It grows best in {}."),
        "repot": ("It wants a new pot {}.", "Repot it {}, after it has flowered."),
        "flowers": ("It flowers from {}.", "Expect flowers from {}."),
        "feed": ("Feed it at {}, never on dry roots.", "Fertiliser is given at {}."),
        "scent": ("The flowers smell of {}.", "Its flowers have a scent of {}."),
    }
    names = list(facts)
    chance.shuffle(names)
    return " ".join([f"Care of {plant}.", *(chance.choice(sentences[name]).format(facts[name]) for name in names)])


def make_rows(sheets: list[Sheet], chance: random.Random) -> Iterator[dict[str, object]]:
    """Yield the questions about some sheets."""
    for place, sheet in enumerate(sheets):
        for topic in sorted(chance.sample(sorted(sheet.facts), 3)):
            fact = sheet.facts[topic]
            yield {
                "prompt": chance.choice(QUESTIONS[topic]).format(plant=sheet.plant),
                "answer": f"{fact[0].upper()}{fact[1:]} [{sheet.id}]",
                "fact": fact,
                "relevant": [sheet.id],
                "left_out": {"answer": DECLINED, "fact": DECLINED},
            }
        if place % 3 == 0:
            scent = "scent" not in sheet.facts and chance.random() < 0.5
            question = chance.choice(QUESTIONS["scent"] if scent else UNKNOWN)
            yield {
                "prompt": question.format(plant=sheet.plant),
                "answer": DECLINED,
                "fact": DECLINED,
                "relevant": [],
            }


def write(name: str, rows: list[dict[str, object]]) -> None:
    """Write a file of rows."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (FOLDER / f"{name}.jsonl").write_text(text, encoding="utf-8")


def main() -> None:
    """Write all files."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    chance = random.Random(SEED)
    sheets = make_sheets(chance)
    write("documents", [{"id": sheet.id, "text": sheet.text, "plant": sheet.plant} for sheet in sheets])
    start = 0
    for split, count in SPLITS.items():
        rows = list(make_rows(sheets[start : start + count], chance))
        write(split, rows)
        if split == "train":
            write("demonstrations", [{**row, "completion": row["answer"]} for row in rows])
        start += count


if __name__ == "__main__":
    main()
