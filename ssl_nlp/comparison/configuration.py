"""What is the same in the configurations of runs, and what is not."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ssl_nlp.comparison.compared_runs import ComparedRun

# Neither the result of a run nor its place in the comparison depends on these.
ASIDE = (
    "seed_everything",
    "run",
    "wandb",
    "ckpt_path",
    "weights_only",
    "checkpoint_every",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "data.seed",
    "data.workers",
)
# What a fair comparison keeps equal: how it is called, and where it is configured.
EQUAL = {
    "corpus": ("data.corpus",),
    "tokenizer": ("data.tokenizer",),
    "encoder": ("model.encoder",),
    "way of cutting texts into batches": ("data.unit", "data.length", "data.max_length"),
}
SHOWN = 3  # keys that a sentence names
TOLERANCE = 0.01  # tokens seen may differ by this share: batches hold whole texts


def flatten(config: Any, key: str = "") -> dict[str, str]:
    """The leaves of a configuration by their dotted keys, without `init_args`, and our own classes by their short names."""
    if isinstance(config, Mapping) and config:
        parts = config.items()
    elif isinstance(config, list) and any(isinstance(part, Mapping) for part in config):
        parts = dict(enumerate(config)).items()
    else:
        name = key.removesuffix(".class_path")
        ours = name != key and str(config).startswith("ssl_nlp.")
        return {name: str(config).rsplit(".", 1)[-1] if ours else _text(config)}
    leaves: dict[str, str] = {}
    for name, part in parts:
        if name == "init_args" and not part:
            continue  # a class without arguments is its name
        leaves |= flatten(part, key if name == "init_args" else f"{key}.{name}".lstrip("."))
    return leaves


def settings(run: ComparedRun) -> dict[str, str]:
    """What makes the configuration of a run: two runs with equal ones are two seeds of one configuration."""
    if not run.config:
        return {"model": run.name}
    return {key: value for key, value in flatten(run.config).items() if not _within(key, ASIDE)}


def group(runs: Sequence[ComparedRun]) -> list[list[ComparedRun]]:
    """Runs by configuration, each group in the order of its seeds."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(settings(run), sort_keys=True), []).append(run)
    return [sorted(members, key=lambda run: run.seed or 0) for members in groups.values()]


def label(groups: Sequence[Sequence[ComparedRun]]) -> list[str]:
    """A name for each configuration: its method and, where several have the same, what differs between them."""
    names = [members[0].method if members[0].config else members[0].name for members in groups]
    labels = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        alike = [number for number, other in enumerate(names) if other == name]
        differing = difference([settings(groups[number][0]) for number in alike])
        for place, number in enumerate(alike):
            values = [f"{key.rsplit('.', 1)[-1]}={row[place]}" for key, row in differing.items()]
            labels[number] = f"{name} {' '.join(values) if len(values) <= SHOWN else groups[number][0].name}"
    # Short keys of different places may read the same; names of runs do not.
    return [f"{text} ({groups[n][0].name})" if labels.count(text) > 1 else text for n, text in enumerate(labels)]


def difference(configurations: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """The keys that differ, with the value in each configuration; `–` where it has none."""
    keys = dict.fromkeys(key for configuration in configurations for key in configuration)
    values = {key: [configuration.get(key, "–") for configuration in configurations] for key in keys}
    return {key: row for key, row in values.items() if len(set(row)) > 1}


def sentences(configuration: Mapping[str, Mapping[str, str]]) -> list[str]:
    """One sentence for each thing that a fair comparison keeps equal and that is not.

    Args:
        configuration: key -> label -> value, for the keys that differ.
    """
    said = []
    for thing, places in EQUAL.items():
        keys = [key for key in configuration if _within(key, places)]
        if keys:
            named = [f"{key} is {spoken(configuration[key])}" for key in keys[:SHOWN]]
            more = [f"{len(keys) - SHOWN} more keys differ"] if len(keys) > SHOWN else []
            said.append(f"The {thing} differs: {'; '.join([*named, *more])}.")
    return said


def not_equal(configurations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The sentences on complete configurations by their labels, which are known before anything is trained."""
    differing = difference([flatten(configuration) for configuration in configurations.values()])
    return sentences({key: dict(zip(configurations, row, strict=True)) for key, row in differing.items()})


def spoken(values: Mapping[str, str]) -> str:
    """Who has which value: `0.1 for A, B and 0.2 for C`."""
    labels: dict[str, list[str]] = {}
    for name, value in values.items():
        labels.setdefault(value, []).append(name)
    return " and ".join(f"{value} for {', '.join(names)}" for value, names in labels.items())


def _within(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith(f"{place}.") for place in places)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 2 and 2.0 are the same setting, and which of them is written depends on the parser
    return value if isinstance(value, str) else json.dumps(value, default=str)
