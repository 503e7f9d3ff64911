"""Tasks with passages."""

from rft.types import Task

WATER = "Water a moth orchid every 7 days; never let it stand in water, and let the bark dry a little in between."
LIGHT = "Keep Vanda coerulea at 30,000 lux. The Royal Society named it on 1 March 2026."
COLD = "Cymbidium needs cool nights below 15 degrees."


def orchid_task(*, relevant=("p1",), shown=("p1", "p2", "p3"), **columns):
    texts = {"p1": WATER, "p2": LIGHT, "p3": COLD}
    passages = [{"id": name, "text": texts[name], "metadata": {}, "score": 0.5} for name in shown]
    item = {"answer": "every 7 days", "passages": passages, **columns}
    if relevant is not None:
        item["relevant"] = list(relevant)
    prompt = "How often do I water my moth orchid from Ecuador?"
    return Task(id="t", messages=({"role": "user", "content": prompt},), item=item, split="train")
