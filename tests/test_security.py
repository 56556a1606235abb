"""Files that somebody else sent do not run code, whatever they say: each attack ends with one line, and leaves no proof."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_nlp import checkpoint
from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import train
from ssl_nlp.encoders import Encoder, PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CausalLM, MaskedLM, Method, MultiObjective, Projection, SimCLR
from ssl_nlp.objectives.views import Delete
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
    assert "holds a subprocess.Popen, not a Encoder" in refused(capfd, *COMMANDS[command])


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
        "class_path": "ssl_nlp.callbacks.samples.Samples",
        "init_args": {"directory": "PROOF"},
    },
    "a class of a library": {"class_path": "filelock.FileLock", "init_args": {"lock_file": "PROOF"}},
    "a private class": {"class_path": "ssl_nlp.methods.loss._Nothing", "init_args": {}},
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


def test_a_class_is_found_by_each_of_its_names():
    assert checkpoint.find_class("ssl_nlp.encoders.Transformer", Encoder) is Transformer
    assert checkpoint.find_class("ssl_nlp.encoders.transformer.Transformer", Encoder) is Transformer
    assert checkpoint.find_class("__main__.Shaped", Method) is Shaped  # it was a script's, and is a module's now
