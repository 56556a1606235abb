"""Checkpoints that somebody else sent do not run code: each attack ends with one line, and leaves no proof."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_nlp.data import Tokenizer
from ssl_nlp.encoders import PretrainedEncoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM, MaskedLM, Method, MultiObjective, SimCLR
from ssl_nlp.objectives.views import Delete
from tests.commands.attacks import ATTACKS, BERT, PROOF, TOUCH, refused, saved, tiny
from tests.end_to_end.cli import run
from tests.end_to_end.suites import write_suites

pytestmark = pytest.mark.usefixtures("payload")


COMMANDS = {
    "embed": ["embed", "--checkpoint=a.ckpt", "--input=in.txt", "--output=out.npy"],
    "generate": ["generate", "--checkpoint=a.ckpt", "--prompt=a"],
    "score": ["score", "--checkpoint=a.ckpt", "--input=in.txt"],
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


def test_a_step_that_is_not_a_number_is_refused(tokenizer):
    torch.save(saved(MaskedLM(tiny()), tokenizer) | {"global_step": "x"}, "a.ckpt")
    with pytest.raises(UserError, match=r"a.ckpt describes no method"):
        Method.load_from_checkpoint("a.ckpt")


def test_weights_that_do_not_fit_are_named(tokenizer):
    content = saved(MaskedLM(tiny()), tokenizer)
    del content["state_dict"]["token_counts"]
    torch.save(content, "a.ckpt")
    with pytest.raises(
        UserError, match=r"a.ckpt: its weights do not fit its MaskedLM \(Missing key.* \"token_counts\""
    ):
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
    told = refused(capfd, *COMMANDS["generate"])
    assert re.search(r"a.ckpt holds [\w.]+, which could run code, so it is not read", told)


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
    assert run("evaluate", "pretrained:model") == 2
    error = capfd.readouterr().err
    assert error.startswith("ssl-nlp: no tokenizer at 'model'") and error.count("\n") == 1
    with pytest.raises(UserError, match="cannot load the encoder 'model'"):
        PretrainedEncoder("model").build(400, 0, False)
