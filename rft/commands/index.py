"""`rft index`: make a local index of passages, and measure what it finds."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf
from pydantic import BaseModel
from yaml import YAMLError

from rft.config.compose import check
from rft.config.index import IndexBuildConfig, IndexCheckConfig
from rft.errors import ConfigError

USAGE = """\
usage: rft index build documents=<file> out=<folder> [embedder=hashing] [columns.text=<column>]
       rft index check index=<folder> data=<file> [relevant=<column>] [query=<column or template>] [top_k=10]

{keys}
docs/retrieval.md explains both.
"""
ACTIONS: dict[str, type[BaseModel]] = {"build": IndexBuildConfig, "check": IndexCheckConfig}


def index(words: list[str]) -> int:
    """Make or check an index; return the exit code, 0."""
    if not words or {"-h", "--help"} & {*words}:
        print(_usage(), end="")
        return 0 if words else 2
    action, *given = words
    if action not in ACTIONS:
        raise ConfigError("command line", [f"rft index {action}: write rft index build or rft index check"])
    if unclear := [word for word in given if "=" not in word or word.startswith("-")]:
        raise ConfigError("command line", [f"{word}: write key=value; see rft index --help" for word in unclear])
    values = OmegaConf.to_container(OmegaConf.merge(*map(_value, given)))
    if action == "build":
        return _build(check(IndexBuildConfig, values, lambda config: []))
    return _check(check(IndexCheckConfig, values, lambda config: []))


def _value(word: str) -> DictConfig:
    """Return the value of `key=value`; one that is no YAML, such as a template, is a text."""
    try:
        return OmegaConf.from_dotlist([word])
    except YAMLError:
        key, _, text = word.partition("=")
        values = OmegaConf.create()
        OmegaConf.update(values, key, text)
        return values


def _build(config: IndexBuildConfig) -> int:
    from rft.api.index import make_index

    made = make_index(config)
    print(
        f"{config.out}: {made['num_passages']:,} passages, vectors of {made['dimensions']} numbers by {made['model']}, "
        f"fingerprint {made['fingerprint']}"
    )
    return 0


def _check(config: IndexCheckConfig) -> int:
    from rft.api.index import check_index

    results, misses, num_left_out = check_index(config)
    cuts = list(next(iter(results.values())).recall)
    print(f"{'ranking':<10}" + "".join(f"{f'recall@{cut}':>11}" for cut in cuts) + f"{'MRR':>8}")
    for name, own in results.items():
        print(f"{name:<10}" + "".join(f"{own.recall[cut]:>11.3f}" for cut in cuts) + f"{own.mrr:>8.3f}")
    if num_left_out:
        print(f"{num_left_out} rows name no relevant passage and are left out")
    if misses:
        more = f" and {len(misses) - 5} more" if len(misses) > 5 else ""
        print(f"no relevant passage among the first {config.top_k} for {', '.join(misses[:5])}{more}")
    return 0


def _usage() -> str:
    lines = []
    for action, schema in ACTIONS.items():
        lines.append(f"rft index {action}")
        lines += [f"  {name:<10} {field.description}" for name, field in schema.model_fields.items()]
    return USAGE.format(keys="\n".join(lines))
