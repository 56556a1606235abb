"""The help of the trainer commands fits on one screen, and says what the parser and the docstrings say."""

import inspect
import re

import pytest
import yaml
from lightning.pytorch import Trainer

from ssl_nlp import methods
from ssl_nlp.commands.fit import plan_fit
from ssl_nlp.commands.help import COMMON, SECTIONS, help_text
from ssl_nlp.commands.shipped import config_names
from ssl_nlp.data import TextDataModule
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.methods import MaskedLM, Optimization, SimCLR
from ssl_nlp.modules import Projection
from tests.end_to_end.cli import run

CONFIGS = [name for name in config_names() if "/" not in name]
LINE = re.compile(r"  (--[\w.]+)=(\S+) +(\S.*)")


def options(text: str) -> dict[str, tuple[str, str]]:
    """The options that help shows: the value and the text of each."""
    return {found[1]: (found[2], found[3]) for line in text.splitlines() if (found := LINE.fullmatch(line))}


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("fit", []),
        *(("fit", ["--config", name]) for name in CONFIGS),
        *((c, []) for c in ("validate", "test", "predict")),
    ],
    ids=lambda part: part if isinstance(part, str) else "".join(part[1:]),
)
def test_it_fits_on_one_screen(command, arguments):
    lines = help_text(command, [*arguments, "--help"]).splitlines()
    assert lines[0].startswith(f"usage: ssl-nlp {command} --")
    said = "The best checkpoint is best.ckpt, from the validation with the lowest loss or, for a task, the best value"
    assert (said in " ".join(lines)) == (command != "fit")
    listed = [line for line in lines if re.match(r"  (\w+)  ", line)]  # methods, also those of tests
    assert len(lines) - len(listed) <= 50
    assert all(len(line) <= 100 for line in lines)


def test_without_a_method_it_lists_configurations_and_methods():
    text = help_text("fit", ["--help"])
    assert all(name in text for name in CONFIGS)
    assert all(name in text for name in ("data/files", "encoder/small", "trainer/gpu"))
    kinds = [kind for kind in vars(methods).values() if inspect.isclass(kind) and issubclass(kind, methods.Method)]
    assert all(f"  {kind.__name__} " in text for kind in kinds if kind is not methods.Method)
    assert "--model." not in text.replace("--model.optimization.", "")


@pytest.mark.parametrize("config", ["simclr", "vae"])
def test_every_option_exists_with_the_value_that_the_configuration_gives_it(config):
    shown = options(help_text("fit", ["--config", config, "--help"]))
    placeholders = {"--run", "--ckpt_path"}
    typed = [f"{name}={value}" for name, (value, _) in shown.items() if name not in placeholders]
    assert len(typed) > 20
    classes = ("--model.encoder=", "--data.corpus=", "--model.views=")  # a class would start again with its defaults
    planned = yaml.safe_load(
        plan_fit(["--config", config, *(given for given in typed if not given.startswith(classes))])
    )
    assert planned == yaml.safe_load(plan_fit(["--config", config]))


def test_a_method_that_counts_shows_no_optimization():
    shown = options(help_text("fit", ["--config", "ngram_lm", "--help"]))
    assert "--model.order" in shown
    assert not [name for name in shown if "optimization" in name]


@pytest.mark.parametrize(
    "arguments", [["--config", "simclr"], ["--model", "SimCLR"], ["--model=ssl_nlp.methods.SimCLR"]]
)
def test_the_options_of_the_chosen_method_are_its_arguments(arguments):
    shown = options(help_text("fit", [*arguments, "-h"]))
    own = set(inspect.signature(SimCLR).parameters) - {"optimization", "compile", "projection"}
    assert {f"--model.{name}" for name in own} <= shown.keys()
    assert {f"--model.projection.{name}" for name in inspect.signature(Projection).parameters} <= shown.keys()


def test_a_number_that_may_change_is_shown_with_what_its_change_takes():
    shown = options(help_text("fit", ["--model", "MaskedDiffusion", "--help", "model"]))
    assert shown["--model.max_masking_rate"][0] == "1.0"
    assert {f"--model.max_masking_rate.{name}" for name in ("start", "end", "steps")} <= shown.keys()
    shown = options(help_text("fit", ["--config", "masked_diffusion", "--help", "model"]))
    assert (shown["--model.max_masking_rate"][0], shown["--model.max_masking_rate.start"][0]) == ("{...}", "0.3")


def test_texts_are_those_of_the_docstrings():
    shown = options(help_text("fit", ["--config", "simclr", "--help"]))
    sources = {"--model.projection": Projection, "--model.optimization": Optimization, "--model.encoder": Transformer}
    sources |= {"--model": SimCLR, "--data": TextDataModule}
    seen = 0
    for name, (_, text) in shown.items():
        source = next((kind for start, kind in sources.items() if name.rpartition(".")[0] == start), None)
        if source is not None and " or " not in text:  # choices come from the type
            documented = " ".join(f"{source.__doc__} {inspect.getsource(source)}".split())
            assert text.removesuffix(" ...").lower() in documented.lower()
            seen += 1
    assert seen > 10


def test_our_own_texts_are_about_options_of_the_trainer():
    assert set(COMMON) - {"seed_everything", "ckpt_path"} <= set(inspect.signature(Trainer).parameters)


@pytest.mark.parametrize("section", SECTIONS[:-1])
def test_a_section_shows_every_option_in_full(section, capsys):
    assert run("fit", "--help", section, "--config", "masked_lm") == 0
    text = capsys.readouterr().out
    kinds = {"model": MaskedLM, "encoder": PretrainedEncoder, "optimization": Optimization, "trainer": Trainer}
    kind = kinds.get(section, TextDataModule if section == "data" else None)
    names = set(inspect.signature(kind).parameters) if kind else {"project", "mode"}
    assert all(f".{name}" in text for name in names - {"optimization"})
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("  --"))
    if section == "encoder":
        assert "--model.encoder.name=VALUE  (text)" in text
        assert "--model.encoder.config=null  (mapping or null)" in text


def test_all_is_the_help_of_the_parser(capsys):
    assert run("fit", "--config", "masked_lm", "--help", "all") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ssl-nlp ")
    assert {"--trainer.gradient_clip_algorithm", "--print_config", "--wandb.entity"} <= set(
        re.findall(r"--[\w.]+", text)
    )


def test_an_unknown_section_is_refused(capsys):
    assert run("fit", "--help", "modle") == 2
    assert "there is no such section: use one of model, encoder, " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["embed", "generate", "score", "fill-mask", "evaluate", "compare", "tune", "demo"])
def test_the_help_of_other_commands_says_what_is_needed_and_shows_defaults(command, capsys):
    assert run(command, "--help") == 0
    text = capsys.readouterr().out
    needed = {"embed": " --checkpoint CHECKPOINT --output OUTPUT", "evaluate": " MODEL...", "compare": " RUN..."}
    needed |= {
        "demo": " [FIT_ARGUMENTS]",
        "tune": " CONFIG... --budget BUDGET",
        "generate": " --checkpoint CHECKPOINT",
        "score": " --checkpoint CHECKPOINT",
        "fill-mask": " --checkpoint CHECKPOINT",
    }
    assert text.startswith(f"usage: ssl-nlp {command}{needed[command]}")
    assert all(len(line) <= 124 for line in text.splitlines())
    assert "type:" not in text and "null" not in text
    assert {"embed": "--batch_size=64 ", "generate": "--temperature=0.8 "}.get(command, "") in text
