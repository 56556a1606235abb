"""Differences between the configurations of runs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ssl_nlp.comparison.compared_runs import ComparedRun
from ssl_nlp.corpora.digests import SHORT

# Keys that influence neither the result of a run nor its row in the comparison.
ASIDE = (
    "seed_everything",
    "run",
    "wandb",
    "ckpt_path",
    "weights_only",
    "checkpoint_every",
    "keep_every",
    "trainer.default_root_dir",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.num_sanity_val_steps",
    "data.seed",
    "data.workers",
    "data.digests",
)
TEXT = "data.text"  # stands for the digests of the text, which no setting says
# What a fair comparison keeps equal: its name, and the keys that configure it.
EQUAL = {
    "corpus": ("data.corpus",),
    "text, by its digest,": (TEXT,),
    "tokenizer": ("data.tokenizer",),
    "encoder": ("model.encoder",),
    "batching": (
        "data.unit",
        "data.length",
        "data.max_length",
        "data.batch_size",
        "data.similar_lengths",
        "trainer.accumulate_grad_batches",
    ),
    "optimization": (
        "model.optimization",
        "trainer.gradient_clip_val",
        "trainer.gradient_clip_algorithm",
        "trainer.precision",
    ),
    "dropout": (),
    "pooling": (),
}
NONE = "–"
NULL = "null"


class Shared(NamedTuple):
    """A setting that all methods share, beside which one method may have more of its kind, such as the rate of a critic.

    Attributes:
        thing: what it belongs to, a key of `EQUAL`.
        key: where it stands.
        default: its value where it is not set.
    """

    thing: str
    key: str
    default: str = NONE


OF_OPTIMIZERS = {
    name: Shared("optimization", f"model.optimization.{name}")
    for name in ("learning_rate", "weight_decay", "betas", "optimizer")
} | {"gradient_clip_val": Shared("optimization", "trainer.gradient_clip_val")}
"""By the name with which the settings end that are of their kind: `critic_learning_rate` is a learning rate."""
OF_LAYERS = {
    "dropout": Shared("dropout", "model.encoder.dropout", "0"),
    "pooling": Shared("pooling", "model.pooling", "mean"),
}
"""By the whole name: `word_dropout` hides words, and is no dropout."""
FROM_A_RUN = ("tokenizer", "encoder")
"""Those that a run with the encoder of another run has from there, whatever its own settings say."""
STARTED = "Trained"
SHOWN = 3  # keys that a sentence names
NAMED = 4  # labels with a common value that a sentence names
TOLERANCE = 0.01  # share by which tokens may differ, because batches hold whole texts


def flatten(config: Any, key: str = "") -> dict[str, str]:
    """Leaves of a configuration by dotted key, without `init_args`; our own classes have their short names."""
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
    """Settings that identify a configuration, and the digests of the text where they are known."""
    if not run.config:
        return {"model": run.name}
    text = {f"{TEXT}.{split}": digest[:SHORT] for split, digest in sorted(run.text.items())}
    return {key: value for key, value in flatten(run.config).items() if not _within(key, ASIDE)} | text


def group(runs: Sequence[ComparedRun]) -> list[list[ComparedRun]]:
    """Group runs whose settings do not differ, each group sorted by seed."""
    groups: list[list[dict[str, str]]] = []
    members: list[list[ComparedRun]] = []
    for run in runs:
        own = settings(run)
        place = next((n for n, group in enumerate(groups) if not difference([*group, own])), len(groups))
        if place == len(groups):
            groups.append([])
            members.append([])
        groups[place].append(own)
        members[place].append(run)
    return [sorted(group, key=lambda run: run.seed or 0) for group in members]


def label(groups: Sequence[Sequence[ComparedRun]]) -> list[str]:
    """Name each configuration by its method and, if several share it, by the settings that differ."""
    names = [members[0].method if members[0].config else members[0].name for members in groups]
    runs = [members[0].name for members in groups]
    return told_apart(names, [of_group(members) for members in groups], runs)


def of_group(members: Sequence[ComparedRun]) -> dict[str, str]:
    """The settings of a group of `group`, with all digests that are known."""
    return {key: value for run in reversed(members) for key, value in settings(run).items()}


def unknown_text(groups: Mapping[str, Sequence[ComparedRun]]) -> list[str]:
    """Sentences on the groups, by label, and the seeds of whose training text no digest is known, unlike that of others."""
    unknown, said = [], []
    for label, members in groups.items():
        without = [run.name for run in members if run.config and "train" not in run.text]
        if len(without) < len(members):
            said += [
                f"No digest is recorded of the text that {name}, a seed of {label}, was trained on, which may therefore "
                "differ from that of the other seeds."
                for name in without
            ]
        elif without:
            unknown.append(label)
    if unknown and len(groups) > 1:
        said.append(
            f"No digest is recorded of the text that {', '.join(unknown)} was trained on, which may therefore differ from "
            "that of the others: streams and runs of earlier versions have none."
        )
    return said


def told_apart(names: Sequence[str], chosen: Sequence[Mapping[str, str]], unique: Sequence[str]) -> list[str]:
    """Add to names that are not unique the settings that differ.

    Args:
        names: of N things.
        chosen: the settings of each.
        unique: a name of each that no other has, for where settings are too many or do not differ.
    """
    labels = list(names)
    for name in {name for name in names if names.count(name) > 1}:
        alike = [number for number, other in enumerate(names) if other == name]
        differing = difference([chosen[number] for number in alike])
        for place, number in enumerate(alike):
            values = [f"{key.rsplit('.', 1)[-1]}={row[place]}" for key, row in differing.items()]
            labels[number] = f"{name} {' '.join(values) if len(values) <= SHOWN else unique[number]}"
    # The last parts of two keys may be equal; the names of runs never are.
    return [f"{text} ({unique[n]})" if labels.count(text) > 1 else text for n, text in enumerate(labels)]


def difference(configurations: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Keys that differ, with their value in each configuration, or `–` if it has none.

    A digest that is not known differs from no other.
    """
    keys = dict.fromkeys(key for configuration in configurations for key in configuration)
    values = {key: [configuration.get(key, NONE) for configuration in configurations] for key in keys}
    return {key: row for key, row in values.items() if len({*row} - ({NONE} if _within(key, [TEXT]) else set())) > 1}


def sentences(chosen: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Write one sentence for each thing that a fair comparison keeps equal and that differs here.

    Tokenizer and encoder are compared among the runs that made theirs: a run that started from another one has the settings
    of that one, and its own are not used.

    Args:
        chosen: the settings of each configuration, by label.
    """
    differing = {key: dict(zip(chosen, row, strict=True)) for key, row in difference([*chosen.values()]).items()}
    kinds = differing.get("model.encoder", {})
    said = []
    for thing, places in EQUAL.items():
        skipped = {label for label, kind in kinds.items() if kind == STARTED and thing in FROM_A_RUN}
        values = {
            key: {label: value for label, value in row.items() if label not in skipped}
            for key, row in differing.items()
            if _within(key, places) or _departs(key, thing, [*chosen.values()])
        }
        if parts := differing_keys({key: row for key, row in values.items() if len(set(row.values())) > 1}):
            said.append(f"The {thing} differs: {'; '.join(parts)}.")
    return said


def _departs(key: str, thing: str, configurations: Sequence[Mapping[str, str]]) -> bool:
    """Whether a setting of a method, such as the rate of a critic, is not what the others share.

    One that only some have belongs to their method. It departs if it has neither the value that its own configuration gives
    the shared setting, nor any that a configuration without it gives to settings of its kind.
    """
    shared = _shared(key)
    if shared is None or shared.thing != thing:
        return False
    having = [one for one in configurations if one.get(key, NULL) != NULL]
    if len({one[key] for one in having}) > 1:
        return True
    others = [_of_kind(shared, one) for one in configurations if one.get(key, NULL) == NULL]
    for one in having:
        standard = shared.default if key == shared.key else one.get(shared.key, shared.default)
        if standard not in (one[key], NULL) and any(values and one[key] not in values for values in others):
            return True
    return False


def _of_kind(shared: Shared, configuration: Mapping[str, str]) -> set[str]:
    """The values of the settings of one kind; empty where the method has nothing of the kind."""
    values = {value for key, value in configuration.items() if key == shared.key or _shared(key) == shared}
    return (values - {NULL} or {shared.default}) - {NONE}


def _shared(key: str) -> Shared | None:
    """The shared setting that a setting of a method is compared with; None if there is none of its kind."""
    parts = key.split(".")
    # Objectives of a `MultiObjective` do not use their own `optimization`.
    if parts[0] != "model" or "optimization" in parts or _within(key, EQUAL["encoder"]):
        return None
    kinds = [kind for name, kind in OF_OPTIMIZERS.items() if parts[-1] == name or parts[-1].endswith(f"_{name}")]
    return kinds[0] if kinds else OF_LAYERS.get(parts[-1])


def differing_keys(rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The parts of a sentence: keys with the values of each label, and the number of further ones."""
    named = [f"{key} is {spoken(values)}" for key, values in list(rows.items())[:SHOWN]]
    more = len(rows) - len(named)
    return [*named, f"{more} more {'key differs' if more == 1 else 'keys differ'}"] if more else named


def not_equal(configurations: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences on complete configurations, by label, before anything is trained."""
    return sentences({label: flatten(configuration) for label, configuration in configurations.items()})


def spoken(values: Mapping[str, str]) -> str:
    """Values with the labels that have them: `0.1 for A, B and 0.2 for C`, or `not set for A and 0.2 for B`.

    Where more than `NAMED` have the most common value, they are the others: `0.2 for C and 0.1 for the others`.
    """
    labels: dict[str, list[str]] = {}
    for name, value in values.items():
        labels.setdefault("not set" if value == NONE else value, []).append(name)
    common = max(labels, key=lambda value: len(labels[value]), default=None)
    if common is not None and len(labels[common]) > NAMED and len(labels) > 1:
        del labels[common]
        labels[common] = ["the others"]
    return " and ".join(f"{value} for {', '.join(names)}" for value, names in labels.items())


def _within(key: str, places: Sequence[str]) -> bool:
    return any(key == place or key.startswith(f"{place}.") for place in places)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 2 and 2.0 are the same setting; the parser decides which is written
    return value if isinstance(value, str) else json.dumps(value, default=str)
