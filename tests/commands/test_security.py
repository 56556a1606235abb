"""Files that somebody else sent do not run code, whatever they say: each attack ends with one line, and leaves no proof."""

import csv
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from rich.table import Table
from rich.text import Text

from ssl_nlp.commands.evaluate import wandb_settings
from ssl_nlp.comparison import Comparison, Estimate, Row
from ssl_nlp.comparison.table import write_csv
from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import train
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM, MaskedLM, Method, MultiObjective, Projection, SimCLR
from ssl_nlp.names import as_name, check_name
from ssl_nlp.objectives.views import Delete
from ssl_nlp.runs import checkpoint
from ssl_nlp.runs.run import Run as RunDirectory
from ssl_nlp.runs.tracking import WandbSettings, wandb_mode
from ssl_nlp.terminal import SafeConsole, console, printable, say
from tests.corpus import random_texts
from tests.end_to_end.cli import run, write_texts
from tests.end_to_end.test_errors import fit
from tests.end_to_end.test_evaluate import write_suites

PROOF = Path("PROOF")
TOUCH = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "PROOF"]}}
LATER = {"class_path": "payload.Encoder", "init_args": {}}  # a module in the working directory
BERT = {"model_type": "bert", "vocab_size": 400, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(autouse=True)
def in_folder_with_a_payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The working directory, which is on Python's path, holds modules that leave a proof when they are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    source = "from pathlib import Path\nfrom ssl_nlp.encoders import Transformer as Encoder\nPath('PROOF').touch()\n"
    Path("payload.py").write_text(source)
    Path("runs/sent").mkdir(parents=True)
    Path("runs/sent/payload.py").write_text(source)
    yield
    assert not PROOF.exists()
    assert not {"payload", "runs.sent.payload"} & sys.modules.keys()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train(TokenizerSettings(vocab_size=300), lambda: iter(random_texts(50))))


def tiny() -> Transformer:
    return Transformer(None, dim=16, layers=1, heads=2, max_length=64)


def saved(method: Method, tokenizer: Tokenizer) -> dict[str, Any]:
    """What a checkpoint of a method holds."""
    method.connect(tokenizer)
    content: dict[str, Any] = {"state_dict": method.state_dict(), "global_step": 1}
    method.on_save_checkpoint(content)
    return content


def refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which a command refuses."""
    assert run(*arguments) == 2
    [line] = [line for line in capfd.readouterr().err.splitlines() if line]
    return line


# ------------------------------------------------------------------------------------------------------------- checkpoints

COMMANDS = {
    "embed": ["embed", "--checkpoint=a.ckpt", "--input=in.txt", "--output=out.npy"],
    "generate": ["generate", "--checkpoint=a.ckpt", "--prompt=a"],
    "fill-mask": ["fill-mask", "--checkpoint=a.ckpt", "--text=a [MASK]"],
    "evaluate": ["evaluate", "a.ckpt"],
    "evaluate a run": ["evaluate", "sent"],
    "compare": ["compare", "sent", "--config=mine.yaml"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_checkpoint_cannot_name_a_command_to_run(command, tokenizer, capfd):
    content = saved(MaskedLM(tiny()), tokenizer)
    content["ssl_nlp"]["method"]["init_args"]["encoder"] = TOUCH
    torch.save(content, "a.ckpt")
    Path("in.txt").write_text("a text\n")
    write_suites(Path())
    Path("runs/sent/checkpoints").mkdir()
    Path("runs/sent/run.json").write_text(json.dumps({"wandb_id": "a", "finished": True}))
    Path("runs/sent/config.yaml").write_text("model: {class_path: ssl_nlp.methods.MaskedLM}\n")
    torch.save(content, "runs/sent/checkpoints/last.ckpt")
    assert "holds a subprocess.Popen, not an Encoder" in refused(capfd, *COMMANDS[command])


PLACES: dict[str, tuple[Method, Any]] = {  # a method, and where in its arguments a description is smuggled in
    "encoder": (MaskedLM(tiny()), lambda given, attack: given | {"encoder": attack}),
    "settings": (MaskedLM(tiny()), lambda given, attack: given | {"optimization": attack}),
    "a number": (MaskedLM(tiny()), lambda given, attack: given | {"masking_rate": attack}),
    "an optional dataclass": (SimCLR(tiny()), lambda given, attack: given | {"projection": attack}),
    "a list": (SimCLR(tiny()), lambda given, attack: given | {"views": [attack]}),
    "a list for a number": (SimCLR(tiny()), lambda given, attack: given | {"temperature": [attack]}),
    "a list in a list": (SimCLR(tiny()), lambda given, attack: given | {"views": [[attack]]}),
    "a dictionary": (SimCLR(tiny()), lambda given, attack: given | {"views": {"a": attack}}),
    "the encoder's number": (
        SimCLR(tiny()),
        lambda given, attack: given | {"encoder": {**given["encoder"], "init_args": {"dim": attack}}},
    ),
    "an objective": (
        MultiObjective(tiny(), [MaskedLM(), CausalLM()]),
        lambda given, attack: given | {"objectives": [attack, given["objectives"][1]]},
    ),
    "within an objective": (
        MultiObjective(tiny(), [SimCLR(views=[Delete(0.1)])]),
        lambda given, attack: (
            given | {"objectives": [{**given["objectives"][0], "init_args": {"views": [attack], "encoder": attack}}]}
        ),
    ),
    "an argument that there is not": (MaskedLM(tiny()), lambda given, attack: given | {"path": attack}),
}
ATTACKS: dict[str, Any] = {
    "a command": TOUCH,
    "a module to import": LATER,
    "a module in a run": {"class_path": "runs.sent.payload.Encoder", "init_args": {}},
    "a function": {"class_path": "os.system", "init_args": {"command": "touch PROOF"}},
    "a function of ours": {"class_path": "ssl_nlp.cache.build_once", "init_args": {"directory": "PROOF"}},
    "a class of ours that belongs elsewhere": {
        "class_path": "ssl_nlp.training.callbacks.samples.Samples",
        "init_args": {"directory": "PROOF"},
    },
    "a class of a library": {"class_path": "filelock.FileLock", "init_args": {"lock_file": "PROOF"}},
    "a private class": {"class_path": "ssl_nlp.training.sums._Nothing", "init_args": {}},
    "a base": {"class_path": "ssl_nlp.encoders.base.Encoder", "init_args": {}},
    "no name": {"class_path": 3, "init_args": {}},
    "no arguments": {"class_path": "ssl_nlp.encoders.Transformer"},
    "more than that": {**LATER, "dict_kwargs": {"a": 1}},
}


@pytest.mark.parametrize("place", PLACES)
def test_nothing_is_created_or_imported_that_does_not_belong(place, tokenizer):
    method, smuggle = PLACES[place]
    described = saved(method, tokenizer)["ssl_nlp"]
    given = described["method"]["init_args"]
    for attack in ATTACKS.values():
        described["method"]["init_args"] = smuggle(given, attack)
        with pytest.raises(UserError, match="a.ckpt"):
            Method.from_description(described, "a.ckpt")
        assert not PROOF.exists()


WRONG: dict[str, tuple[Method, str, Any]] = {
    "a text as the encoder": (MaskedLM(tiny()), "encoder", "tiny"),
    "a text as settings": (MaskedLM(tiny()), "optimization", "x"),
    "plain settings": (MaskedLM(tiny()), "optimization", {"learning_rate": 1}),
    "a text as a number": (MaskedLM(tiny()), "masking_rate", "x"),
    "a truth value as a number": (MaskedLM(tiny()), "masking_rate", True),
    "not one of the choices": (MaskedLM(tiny()), "masking_unit", "page"),
    "not a list": (SimCLR(tiny()), "views", 3),
    "a text in a list": (SimCLR(tiny()), "views", ["x"]),
    "texts for methods": (MultiObjective(tiny(), [MaskedLM()]), "objectives", "abc"),
    "nothing for a method": (MultiObjective(tiny(), [MaskedLM()]), "objectives", [None]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_plain_values_are_of_the_type_that_the_constructor_declares(wrong, tokenizer):
    method, name, value = WRONG[wrong]
    described = saved(method, tokenizer)["ssl_nlp"]
    described["method"]["init_args"][name] = value
    with pytest.raises(UserError, match=f"a.ckpt: {type(method).__name__}.{name} is .*, not "):
        Method.from_description(described, "a.ckpt")


def test_numbers_may_be_written_in_either_way(tokenizer):
    described = saved(MaskedLM(tiny()), tokenizer)["ssl_nlp"]
    described["method"]["init_args"]["encoder"]["init_args"]["dropout"] = 0
    described["method"]["init_args"]["encoder"]["init_args"]["max_length"] = 64.0
    assert Method.from_description(described, "a.ckpt").encoder.max_length == 64


BROKEN: dict[str, Any] = {
    "nothing": None,
    "no tokenizer": {"method": {"class_path": "ssl_nlp.methods.MaskedLM", "init_args": {}}},
    "a list": {"method": [], "tokenizer": ""},
    "another tokenizer": {"method": {"class_path": "ssl_nlp.methods.MaskedLM", "init_args": {}}, "tokenizer": "{}"},
    "no text": {"method": {"class_path": "ssl_nlp.methods.MaskedLM", "init_args": {}}, "tokenizer": {}},
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_checkpoint_that_describes_nothing_is_named(broken):
    torch.save({"ssl_nlp": BROKEN[broken], "state_dict": {}}, "a.ckpt")
    with pytest.raises(UserError, match=r"a.ckpt describes no method|the tokenizer is broken"):
        Method.load_from_checkpoint("a.ckpt")


def test_weights_that_do_not_fit_are_named(tokenizer):
    content = saved(MaskedLM(tiny()), tokenizer)
    del content["state_dict"]["token_counts"]
    torch.save(content, "a.ckpt")
    with pytest.raises(UserError, match=r"a.ckpt: its weights do not fit its MaskedLM"):
        Method.load_from_checkpoint("a.ckpt")


@pytest.mark.parametrize("weights", [None, [1], {}, {1: torch.ones(1)}, {"token_counts": "x"}])
def test_what_is_not_weights_is_named(weights, tokenizer):
    torch.save(saved(MaskedLM(tiny()), tokenizer) | {"state_dict": weights}, "a.ckpt")
    with pytest.raises(UserError, match=r"a.ckpt: its weights do not fit its MaskedLM"):
        Method.load_from_checkpoint("a.ckpt")


def test_pickles_are_not_read(capfd):
    class Attack:
        def __reduce__(self):
            return PROOF.touch, ()

    torch.save({"ssl_nlp": Attack(), "state_dict": {}}, "a.ckpt")
    assert "a.ckpt is not a complete checkpoint" in refused(capfd, *COMMANDS["generate"])


def pretrained(tokenizer: Tokenizer, config: Any) -> None:
    """Write a checkpoint whose encoder is one of `transformers` with this configuration."""
    encoder = PretrainedEncoder("nowhere/at-all", config=BERT)
    content = saved(MaskedLM(encoder), tokenizer)
    content["ssl_nlp"]["method"]["init_args"]["encoder"]["init_args"]["config"] = config
    torch.save(content, "a.ckpt")


CODE = {"auto_map": {"AutoConfig": "payload--payload.Encoder", "AutoModel": "payload--payload.Encoder"}}


@pytest.mark.parametrize(
    "config",
    [
        BERT | CODE,
        BERT | {"attn_implementation": "someone/kernels", "_attn_implementation": "someone/kernels"},
        BERT | {"quantization_config": {"quant_method": "someone"}},
    ],
    ids=["code", "kernels", "quantization"],
)
def test_a_pretrained_encoder_of_a_checkpoint_fetches_no_code(config, tokenizer, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail(question))
    pretrained(tokenizer, config)
    Method.load_from_checkpoint("a.ckpt").embed(["the dog"])


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "has no 'config', without which it would read other files"),
        ({"model_type": "someone"}, "cannot load the encoder"),
        ({"vocab_size": 3}, "cannot load the encoder"),
        (BERT | {"hidden_size": "a"}, "cannot load the encoder"),
        ("config.json", "PretrainedEncoder.config is 'config.json', not dict"),
        ({"model_type": "resnet"}, "does not read tokens"),
        ({"model_type": "timm_wrapper", "architecture": "resnet18"}, "does not read tokens"),
    ],
)
def test_a_pretrained_encoder_of_a_checkpoint_reads_no_other_file(config, said, tokenizer):
    pretrained(tokenizer, config)
    with pytest.raises(UserError, match=said):
        Method.load_from_checkpoint("a.ckpt")


def test_a_published_model_with_code_of_its_own_is_refused_without_a_question(capfd, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question: pytest.fail(question))
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps({"model_type": "mine"} | CODE))
    assert "ssl-nlp: no tokenizer at 'model'" in refused(capfd, "evaluate", "pretrained:model")
    with pytest.raises(UserError, match="cannot load the encoder 'model'"):
        PretrainedEncoder("model").build(400, 0, False)


# ---------------------------------------------------------------------------------------------------------- configurations


CALL = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": "os.system"}}
MADE = {"class_path": "lightning.pytorch.callbacks.LambdaCallback", "init_args": {"on_fit_start": TOUCH}}
CONFIGURED = {
    "method": {"model": LATER},
    "method by name": {"model": "payload.Encoder"},
    "encoder": {"model": {"init_args": {"encoder": TOUCH}}},
    "encoder in a run": {"model": {"init_args": {"encoder": ATTACKS["a module in a run"]}}},
    "views": {"model": {"class_path": "ssl_nlp.methods.SimCLR", "init_args": {"views": [LATER]}}},
    "data": {"data": LATER},
    "corpus": {"data": {"init_args": {"corpus": TOUCH}}},
    "callback": {"trainer": {"callbacks": [LATER]}},
    "command as a callback": {"trainer": {"callbacks": [TOUCH]}},
    "function that a callback calls": {"trainer": {"callbacks": [CALL]}},
    "object that a callback calls": {"trainer": {"callbacks": [MADE]}},
    "logger": {"trainer": {"logger": TOUCH}},
    "profiler": {"trainer": {"profiler": LATER}},
    "strategy": {"trainer": {"strategy": LATER}},
    "plugin": {"trainer": {"plugins": [TOUCH]}},
    "accelerator": {"trainer": {"accelerator": LATER}},
    "weights_only": {"weights_only": False},
    "a pickle": {"ckpt_path": "pickle.ckpt"},
}


@pytest.fixture
def pickle() -> Path:
    """A checkpoint that leaves a proof when it is read by `pickle`."""

    class Attack:
        def __reduce__(self):
            return PROOF.touch, ()

    torch.save({"ssl_nlp": Attack(), "state_dict": {}}, "pickle.ckpt")
    return Path("pickle.ckpt")


@pytest.mark.parametrize("place", CONFIGURED)
def test_a_configuration_names_known_classes_only(place, pickle, capfd):
    """Whoever reads `--config` of somebody else's knows what is run: this package, Lightning, and their own `--import`."""
    Path("sent.yaml").write_text(json.dumps(CONFIGURED[place]))
    before = sorted(Path("runs").rglob("*"))
    write_texts(Path())
    line = refused(capfd, *fit("masked_lm", "--config=sent.yaml", "--run=mine"))
    assert any(name in line for name in ("is not a known class", "weights_only", "pickle.ckpt"))
    assert sorted(Path("runs").rglob("*")) == before


# ------------------------------------------------------------------------------------------------------ runs that were sent


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run."""
    folder = tmp_path_factory.mktemp("trained")
    write_texts(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert run(*fit("masked_lm", "--run=mine")) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def sent(trained: Path) -> Path:
    """Somebody else's run, for the attack to be written into."""
    shutil.copytree(trained, ".", dirs_exist_ok=True)
    Path("runs/mine").rename("runs/theirs")
    return Path("runs/theirs")


def reconfigure(run: Path, **changes: Any) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) else value
    (run / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_configuration_of_a_run_decides_about_numbers_only(command, sent, pickle, capfd):
    """Its trainer would write elsewhere, import modules, and read another checkpoint with pickle: none of it happens."""
    profiler = {"class_path": "lightning.pytorch.profilers.AdvancedProfiler", "init_args": {"dirpath": "PROOF"}}
    logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "PROOF"}}
    trainer = {"profiler": profiler, "logger": logger, "callbacks": [LATER], "default_root_dir": "PROOF"}
    trainer |= {"plugins": [TOUCH], "strategy": LATER, "limit_val_batches": 1}
    reconfigure(sent, trainer=trainer, ckpt_path="pickle.ckpt", weights_only=False, wandb={"mode": "online"})
    before = {path for path in Path().rglob("*") if "cache" not in str(path)}
    assert run(command, "--run=theirs") == 0, capfd.readouterr().err
    written = {path for path in Path().rglob("*") if "cache" not in str(path)} - before
    assert written == ({sent / "embeddings.npy"} if command == "predict" else set())


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_pickle_in_a_run_is_not_read(command, sent, pickle, capfd):
    reconfigure(sent, weights_only=False)
    for name in ("best.ckpt", "last.ckpt"):
        shutil.copy(pickle, sent / "checkpoints" / name)
    assert "best.ckpt is not a complete checkpoint" in refused(capfd, command, "--run", "theirs")
    assert run("fit", "--config", str(sent / "config.yaml"), "--trainer.max_steps=30") == 2


@pytest.mark.parametrize("place", ["model", "data"])
def test_the_classes_of_a_run_are_known_ones(place, sent, capfd):
    reconfigure(sent, **{place: LATER})
    assert "payload.Encoder is not a known class" in refused(capfd, "validate", "--run=theirs")


def test_a_broken_configuration_of_a_run_is_named(sent, capfd):
    for text in ("", "[]", "model: {}\n", "a: [", "model: 1\ndata: 2\nseed_everything: 0\ntrainer: 3\n"):
        (sent / "config.yaml").write_text(text)
        assert "theirs/config.yaml is broken" in refused(capfd, "validate", "--run=theirs")


@pytest.mark.parametrize("name", ["checkpoints", "wandb", "samples.jsonl", "metrics.csv", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("begun", [True, False])
def test_nothing_is_written_through_the_links_of_a_run(name, begun, sent, capfd):
    elsewhere = Path("elsewhere").absolute()
    elsewhere.mkdir()
    link = sent / name
    if link.exists():
        link.rename(elsewhere / link.name)
    link.symlink_to(elsewhere / link.name)
    state = json.loads((sent / "run.json").read_text()) | {"finished": False}
    (sent / "run.json").write_text(json.dumps(state))
    if not begun:
        (sent / "run.json").unlink()
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    line = refused(capfd, "fit", "--config", str(sent / "config.yaml"))
    assert f"{name} is a link to {elsewhere}" in line
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before


def test_links_within_a_run_and_to_all_of_it_are_the_users_own(sent, capfd):
    Path("disk").mkdir()
    sent.rename("disk/theirs")
    sent.symlink_to(Path("disk/theirs").absolute())
    Path("disk/theirs/checkpoints/mine.ckpt").symlink_to("last.ckpt")
    assert "is finished" in refused(capfd, "fit", "--config", str(sent / "config.yaml"))


def test_evaluations_and_embeddings_follow_no_link_of_a_run(sent, capfd):
    (sent / "embeddings.npy").symlink_to(Path("PROOF").absolute())
    assert run("predict", "--run=theirs") == 0
    assert not PROOF.exists() and not (sent / "embeddings.npy").is_symlink()
    (sent / "wandb").symlink_to(Path().absolute())
    capfd.readouterr()
    assert "theirs/wandb is a link" in refused(capfd, "evaluate", "theirs")


@pytest.mark.parametrize("known", ["../../x", "a/b", "x" * 300, 3, ["a"], "a b"])
def test_the_wandb_id_of_a_run_is_one(known, sent):
    (sent / "run.json").write_text(json.dumps({"wandb_id": known, "finished": True}))
    with pytest.raises(UserError, match=r"run.json is broken"):
        RunDirectory("theirs").wandb_id()


def test_a_run_does_not_decide_to_whom_its_numbers_are_sent(sent, monkeypatch, capfd):
    config = sent / "config.yaml"
    monkeypatch.delenv("WANDB_MODE")
    reconfigure(sent, wandb={"mode": "online", "entity": "somebody"})
    for mode in (None, "auto", "online"):
        settings = wandb_settings(config, mode)
        assert (settings.mode, settings.entity) == ("offline", None)
        assert "theirs names the W&B entity somebody: nothing is sent there" in capfd.readouterr().err
    monkeypatch.setenv("WANDB_ENTITY", "somebody")  # the user is of that team
    assert wandb_settings(config, None) == WandbSettings("online", entity="somebody")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert wandb_mode(wandb_settings(config, None)) == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert wandb_mode(wandb_settings(config, "online")) == "offline"
    reconfigure(sent, wandb={"mode": "online", "to": "somebody"})
    with pytest.raises(UserError, match=r"config.yaml is broken"):
        wandb_settings(config, None)


# ------------------------------------------------------------------------------------------- names, terminals, spreadsheets

NAMES = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "a b",
    "a\n",
    "\x1b[31m",
    "$(touch PROOF)",
    "-a",
    ".a",
    "a.",
    "a\u202e",
    "a\0",
    "x" * 300,
    "语" * 90,
]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_name_is_refused_in_one_line(name, capfd):
    write_texts(Path())
    line = refused(capfd, *fit("masked_lm", f"--run={name}"))
    assert "is not a valid name" in line or "is too long for a name" in line
    assert line.isprintable()
    assert refused(capfd, "validate", f"--run={name}").isprintable()


@pytest.mark.parametrize("name", ["a", "lr-0.1_b", "v1.2", "实验一", "हिन्दी", "über", "مرحبا", "7"])
def test_names_of_any_script(name):
    check_name(name, "--run")
    assert as_name(f"{name} {name}") == f"{name}-{name}"


def test_a_run_that_was_begun_under_another_name_is_still_one(sent, capfd):
    sent.rename("runs/a run of old")
    assert run("validate", "--run=a run of old") == 0


@pytest.mark.parametrize("command", [["embed", "--checkpoint"], ["evaluate"], ["compare"], ["validate", "--config"]])
def test_paths_that_no_file_system_takes(command, capfd):
    end = ["--output=a.npy", "--input=payload.py"] if command[0] == "embed" else []
    assert refused(capfd, *command, "x" * 300 + ".ckpt", *end).isprintable()


@pytest.mark.parametrize(
    ("option", "value"),
    [("project", "a/b"), ("project", ""), ("project", "x" * 129), ("entity", "a:b"), ("group", "x" * 129)],
)
def test_what_wandb_does_not_take_is_said_before_training(option, value, capfd):
    write_texts(Path())
    assert f"wandb.{option}" in refused(capfd, *fit("masked_lm", f"--wandb.{option}={value}"))


ESCAPES = "a\x1b]0;title\x07\x1b[2J\rb\x9b31m\u202ec\n\td\ud800"
SAFE = "a\\x1b]0;title\\x07\\x1b[2J\\rb\\x9b31m\\u202ec\n\td\\ud800"


def test_a_terminal_obeys_nobody_else(capfd):
    assert printable(ESCAPES) == SAFE
    assert printable("naïve 语 हि \u200d 👩‍🚀") == "naïve 语 हि \u200d 👩‍🚀"
    say(ESCAPES)
    assert capfd.readouterr().out == SAFE + "\n"
    table = Table(title="t")
    table.add_column(Text("\x1b[31mname"))
    table.add_row(Text("\x1b]8;;http://there\x07row"))
    console(80).print(table)
    SafeConsole(force_terminal=True, color_system="standard").print(Text("\x1b[2Jred", style="red"))
    shown = capfd.readouterr().out
    assert "\\x1b[31mname" in shown and "\\x1b]8;;http://ther" in shown
    assert shown.splitlines()[-1] == "\x1b[31m\\x1b[2Jred\x1b[0m"  # the colour is ours


def test_what_a_checkpoint_writes_is_shown_without_escapes(tokenizer, monkeypatch, capfd):
    torch.save(saved(CausalLM(tiny()), tokenizer), "clm.ckpt")
    torch.save(saved(MaskedLM(tiny()), tokenizer), "mlm.ckpt")
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: "\x1b[2Jone\ntwo")
    monkeypatch.setattr(Tokenizer, "token", lambda self, token_id: "\x1b[2J")
    assert run("generate", "--checkpoint=clm.ckpt", "--prompt=a", "--max_new_tokens=8") == 0
    assert "a\\x1b[2Jone\ntwo\n" in capfd.readouterr().out
    assert run("fill-mask", "--checkpoint=mlm.ckpt", "--text=\x1b[31m [MASK]") == 0
    shown = capfd.readouterr().out
    assert "\\x1b[31m [MASK]" in shown
    assert "\x1b" not in shown


def test_no_cell_of_a_comparison_is_a_formula(tmp_path):
    formula = '=HYPERLINK("http://there","see")'
    for label in (formula, "+1", "-1", "@SUM(1)", "\t=1", "\r=1"):
        row = Row(label, (), True, {label: Estimate(-0.5, None, None, 1)})
        write_csv(Comparison("docs", 1, [], [row], [], {}), tmp_path / "comparison.csv")
        with (tmp_path / "comparison.csv").open(newline="") as file:
            [line] = csv.DictReader(file)
        assert (line["row"], line["number"], line["mean"]) == (f"'{label}", f"'{label}", "-0.5")


# ---------------------------------------------------------------------------------------------------------------- --import

OWN = '''
from pathlib import Path

from beside import RATE
from ssl_nlp.methods import MaskedLM

class Mine(MaskedLM):
    """A masked language model with an argument more."""

    def __init__(self, hidden: float = RATE, **others) -> None:
        super().__init__(**others)
        self.hidden = hidden
'''


def test_a_class_of_ones_own_from_the_working_directory(monkeypatch, capfd):
    """Trained, resumed and used in a folder that is not a package, as the console script runs it."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(Path.cwd()))])
    for name in ("beside", "mine_in_file"):  # what is there after the test is forgotten
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)
    write_texts(Path())
    Path("beside.py").write_text("RATE = 0.4\n")
    Path("mine_in_file.py").write_text(OWN)
    command = [*fit("masked_lm", "--run=own"), "--model=mine_in_file.Mine"]
    assert "mine_in_file.Mine is not a known class: if it is yours, name its file with --import" in refused(
        capfd, *command
    )
    assert run(*command, "--import=mine_in_file.py") == 0
    checkpoint = "--checkpoint=runs/own/checkpoints/last.ckpt"
    assert Method.load_from_checkpoint(checkpoint.partition("=")[2]).hidden == 0.4
    capfd.readouterr()
    # Another process has not imported it: what the class was is forgotten.
    del sys.modules["mine_in_file"]
    monkeypatch.setattr("ssl_nlp.runs.checkpoint.subclasses", lambda bases: iter(()))
    assert "--import FILE.py" in refused(capfd, "fill-mask", checkpoint, "--text=[MASK]")
    assert run("fill-mask", "--import", "mine_in_file.py", checkpoint, "--text=[MASK]") == 0
    assert run("validate", "--import", "mine_in_file", "--run=own") == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--import"], "--import needs a value"),
        (["--import=there.py"], "there is no such file"),
        (["--import=there_is_no_such_module"], "ModuleNotFoundError"),
        (["--import=json.py"], "there is already a module json: rename the file"),
        (["--import=my-file.py"], "cannot be the name of a module"),
        (["--import=wrong.py"], "--import wrong.py fails: ZeroDivisionError: division by zero (line 2)"),
        (["--import=half.py"], "SyntaxError"),
        (["--import=ends.py"], "--import ends.py fails: SystemExit: 0 (line 1)"),
        (["--import=./text.txt"], "--import text.txt is not a .py file"),
    ],
)
def test_mistakes_of_import(given, said, capfd):
    Path("json.py").touch()
    Path("my-file.py").touch()
    Path("wrong.py").write_text("# a comment\n1 / 0\n")
    Path("half.py").write_text("class\n")
    Path("ends.py").write_text("raise SystemExit(0)\n")
    Path("text.txt").touch()
    assert said in refused(capfd, "generate", "--checkpoint=a.ckpt", *given)
    assert not {"wrong", "half", "ends"} & sys.modules.keys()


# --------------------------------------------------------------------------------------- what checkpoints may well describe


@dataclasses.dataclass
class Shape:
    """Settings of a user's own."""

    width: int = 3


class Shaped(SimCLR):
    """A user's own method, with settings of its own in every place where they can be."""

    def __init__(
        self,
        encoder=None,  # its type is that of the base class
        shape: Shape | None = None,
        shapes: tuple[Shape, ...] = (),
        by_name: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(encoder, **others)
        self.shape, self.shapes, self.by_name = shape, shapes, by_name


def test_what_a_class_of_ones_own_declares_is_created_again(tokenizer):
    method = Shaped(
        tiny(), Shape(4), (Shape(5), Shape(6)), {"class_path": "text"}, views=[Delete(0.3)], projection=Projection(1, 8)
    )
    torch.save(saved(method, tokenizer), "a.ckpt")
    loaded = Method.load_from_checkpoint("a.ckpt")
    assert isinstance(loaded, Shaped)
    assert (loaded.shape, loaded.shapes, loaded.by_name) == (Shape(4), (Shape(5), Shape(6)), {"class_path": "text"})
    assert (loaded.hparams["views"], loaded.hparams["projection"]) == ([Delete(0.3)], Projection(1, 8))


class Halved(MaskedLM):
    """A user's own method, which decides about an argument of its base, and hands on the others."""

    def __init__(self, encoder: Encoder | None = None, **others: Any) -> None:
        super().__init__(encoder, masking_rate=0.5, **others)


class Alone(Halved):
    """One that decides about the encoder, too."""

    def __init__(self, **others: Any) -> None:
        super().__init__(tiny(), **others)


class Two(MultiObjective):
    """One that decides about its objectives."""

    def __init__(self, encoder: Encoder | None = None, **others: Any) -> None:
        super().__init__(encoder, [Halved(masking_unit="word")], **others)


class Unnamed(MaskedLM):
    """One that hands on whatever it is given."""

    def __init__(self, *some: Any, **others: Any) -> None:
        super().__init__(*some, **others)


@pytest.mark.parametrize(
    ("method", "rate"),
    [
        (Halved(tiny(), masking_unit="word"), 0.5),
        (Alone(masking_unit="word"), 0.5),
        (Unnamed(tiny(), 0.4, masking_unit="word"), 0.4),
        (Unnamed(encoder=tiny(), masking_rate=0.4, masking_unit="word"), 0.4),
        (MultiObjective(tiny(), [Halved(masking_unit="word")]), 0.5),
        (Two(tiny()), 0.5),
    ],
    ids=lambda case: type(case).__name__,
)
def test_what_a_class_of_ones_own_gives_to_its_base_is_not_given_twice(method, rate, tokenizer):
    torch.save(saved(method, tokenizer), "a.ckpt")
    loaded = Method.load_from_checkpoint("a.ckpt")
    assert type(loaded) is type(method)
    [inner] = loaded.objectives.values() if isinstance(loaded, MultiObjective) else [loaded]
    assert (inner.masking_rate, inner.masking_unit) == (rate, "word")


def test_a_class_is_found_by_each_of_its_names():
    assert checkpoint.find_class("ssl_nlp.encoders.Transformer", Encoder) is Transformer
    assert checkpoint.find_class("ssl_nlp.encoders.transformer.Transformer", Encoder) is Transformer
    assert checkpoint.find_class("__main__.Shaped", Method) is Shaped  # it was a script's, and is a module's now
