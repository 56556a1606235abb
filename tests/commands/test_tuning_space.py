"""The space that `tune` searches."""

import math
import re
from inspect import isclass

import numpy as np
import pytest
import yaml

from ssl_nlp import methods
from ssl_nlp.commands.fit import plan_fit
from ssl_nlp.commands.shipped import CONFIGS
from ssl_nlp.commands.tune import tune
from ssl_nlp.commands.tuning_space import Choice, Range, as_arguments, check_costs, draw, read_spaces, space_of
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Method

SPACE = {
    "rate": Range(0.001, 0.1, log=True),
    "share": Range(0.2, 0.6),
    "window": Range(2, 5),
    "kind": Choice(("a", None)),
}


def test_values_are_spread_over_their_range_and_follow_from_seed_method_and_number():
    drawn = [draw(SPACE, 0, "masked_lm", trial) for trial in range(2000)]
    columns = {name: [values[name] for values in drawn] for name in SPACE}
    assert min(columns["rate"]) >= 0.001 and max(columns["rate"]) <= 0.1
    assert np.mean(np.log(columns["rate"])) == pytest.approx(math.log(0.01), abs=0.1)  # the middle on a log scale
    assert np.mean(columns["share"]) == pytest.approx(0.4, abs=0.01)
    assert {value: columns["window"].count(value) > 400 for value in (2, 3, 4, 5)} == dict.fromkeys((2, 3, 4, 5), True)
    assert set(map(type, columns["window"])) == {int}
    assert 900 < columns["kind"].count("a") < 1100
    assert drawn[7] == draw(dict(reversed(SPACE.items())), 0, "masked_lm", 7)  # whatever else is searched
    others = [draw(SPACE, 1, "masked_lm", 7), draw(SPACE, 0, "simclr", 7), drawn[8]]
    assert all(values["rate"] != drawn[7]["rate"] for values in others)


def test_arguments_are_those_of_fit():
    values = {"model.a": 0.001, "model.b": "muon", "model.c": None, "model.d": [1, 2], "model.e": True}
    assert as_arguments(values) == [
        "--model.a=0.001",
        "--model.b=muon",
        "--model.c=null",
        "--model.d=[1, 2]",
        "--model.e=true",
    ]


CONFIG = {
    "model": {
        "class_path": "ssl_nlp.methods.MaskedLM",
        "init_args": {"masking_rate": 0.3, "encoder": {"class_path": "a.B", "init_args": {"dropout": 0.0}}},
    }
}


def test_a_method_takes_what_it_has_of_the_settings_for_all():
    rate, other = Range(0.1, 0.5), Choice((1, 2))
    spaces = {
        "all": {"model.encoder.dropout": rate, "model.temperature": rate, "model.masking_rate": rate},
        "MaskedLM": {"model.masking_rate": other},
        "SimCLR": {"model.temperature": other},
    }
    assert space_of(spaces, CONFIG) == (
        {"model.encoder.dropout": rate, "model.masking_rate": other},
        ["model.temperature"],
    )
    spaces["MaskedLM"] = {"model.masking_rate": None}
    assert space_of(spaces, CONFIG)[0] == {"model.encoder.dropout": rate}
    spaces["MaskedLM"] = {"model.maskin_rate": other}
    with pytest.raises(UserError, match="MaskedLM has no option model.maskin_rate: did you mean model.masking_rate?"):
        space_of(spaces, CONFIG)


@pytest.mark.parametrize("option", ["data.batch_size", "data.init_args.length", "trainer.accumulate_grad_batches"])
def test_the_text_of_a_step_is_not_searched_where_steps_follow_from_its_cost(option):
    check_costs(SPACE | {"model.length": Range(1, 2)})
    with pytest.raises(UserError, match=f"--space: {option} changes the cost of a step"):
        check_costs(SPACE | {option: Choice((1, 2))})


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("[1]", "write `all:` or the class of a method"),
        ("MaskedML: {model.masking_rate: [1]}", "there is no method MaskedML: did you mean MaskedLM?"),
        ("all: {model.a: 3}", "all, model.a: write a list of choices"),
        ("all: {model.a: []}", "all, model.a: write a list of choices"),
        ("all: {model.a: {low: 1e-4, high: 1}}", "'1e-4' is not a number: write 0.0001, or 1.0e-4"),
        ("all: {model.a: {low: 2, high: 1}}", "low must be less than high"),
        ("all: {model.a: {low: 0, high: 1, log: true}}", "low must be less than high, and more than 0"),
        ("all: {", "cannot be read"),
    ],
)
def test_mistakes_are_named(content, complaint, tmp_path):
    (tmp_path / "space.yaml").write_text(content)
    with pytest.raises(UserError, match=complaint):
        read_spaces(str(tmp_path / "space.yaml"))


def test_the_shipped_space_says_what_is_searched_for_every_method():
    """Beside optimizer and rates, which most have; a method that has nothing else to search is named in a comment."""
    spaces, text = read_spaces("tuning/methods"), (CONFIGS / "tuning" / "methods.yaml").read_text()
    shipped = {name for name in methods.__all__ if isclass(kind := getattr(methods, name)) and issubclass(kind, Method)}
    assert {"Autoencoder", "MaskedDiffusion"} <= shipped
    for name in shipped - {"Method"}:
        own = [option for option, values in spaces.get(name, {}).items() if values and "optimization" not in option]
        assert own or re.search(rf"^# .*\b{name}\b", text, re.MULTILINE), name


SLOW = [  # three seconds each
    "arae", "autoencoder", "causal_lm", "causal_masked_lm", "cbow", "masked_lm", "moco", "ngram_lm", "replaced_token",
    "span_corruption", "text_infilling", "vae",
]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["simclr", "glove", "tsdae", "masked_diffusion", *[pytest.param(n, marks=pytest.mark.slow) for n in SLOW]]
)
def test_the_shipped_space_fits_the_shipped_configurations(name):
    config = yaml.safe_load(plan_fit(["--config", str(CONFIGS / f"{name}.yaml")]))
    space, _ = space_of(read_spaces("tuning/methods"), config)
    own = {"ngram_lm": "model.order", "tsdae": "model.noise", "masked_diffusion": "model.max_masking_rate"}
    assert own.get(name, "model.optimization.learning_rate") in space
    values = draw(space, 0, name, 0)
    again = yaml.safe_load(plan_fit(["--config", str(CONFIGS / f"{name}.yaml"), *as_arguments(values)], tried=True))
    assert space_of(read_spaces("tuning/methods"), again)[0] == space
    for option, value in values.items():
        found = again
        for part in option.split("."):
            found = found.get("init_args", found)[part]
        assert found == value


def test_all_noise_can_be_drawn():
    """Lists and mappings of settings arrive whole."""
    noise = {"model.noise": read_spaces("tuning/methods")["Autoencoder"]["model.noise"]}
    drawn = [draw(noise, 0, "tsdae", trial)["model.noise"] for trial in range(60)]
    assert {views[0]["init_args"]["rate"] if views else 0.0 for views in drawn} == {0.0, 0.2, 0.4, 0.6, 0.8}
    [argument] = as_arguments({"model.noise": [{"class_path": "Delete", "init_args": {"rate": 0.2}}]})
    assert argument == '--model.noise=[{"class_path": "Delete", "init_args": {"rate": 0.2}}]'


@pytest.mark.parametrize("option", ["--trials=0", "--seeds=-1", "--seed=-1"])
def test_impossible_numbers_are_refused_before_anything_is_read(option):
    with pytest.raises(UserError, match=f"{option.split('=')[0]} must be [01] or more, not"):
        tune(["masked_lm", "--budget=9steps", option])
