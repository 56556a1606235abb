"""`null` on the command line is null for every argument that may be null, however deeply nested."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from types import NoneType
from typing import Any, get_args, get_type_hints

import pytest
import yaml

from ssl_nlp import corpora, encoders, methods
from ssl_nlp.commands.fit import plan_fit
from ssl_nlp.corpora import Corpus
from ssl_nlp.data import TextDataModule
from ssl_nlp.encoders import Encoder
from ssl_nlp.methods import MaskedLM, Method, SimCLR
from ssl_nlp.objectives import views
from ssl_nlp.objectives.views import View
from ssl_nlp.training import callbacks
from tests.end_to_end.cli import CONFIGS

pytestmark = pytest.mark.slow


def shipped(base: type) -> list[type]:
    """The classes that a configuration may choose where `base` is declared."""
    modules = (callbacks, corpora, encoders, methods, views)
    found = [kind for module in modules for kind in vars(module).values() if inspect.isclass(kind)]
    return [kind for kind in found if issubclass(kind, base) and not inspect.isabstract(kind) and kind is not Method]


def choices(hint: Any) -> list[type]:
    """The configurable classes that an argument of this type accepts."""
    if inspect.isclass(hint) and issubclass(hint, Corpus | Encoder | View):
        return shipped(hint)
    return [hint] if is_dataclass(hint) else [kind for part in get_args(hint) for kind in choices(part)]


def nullable(kind: type, option: str, chosen: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each option below a class that may be null, with the options that must come first: the classes that it belongs to."""
    for name, hint in get_type_hints(kind.__init__).items():
        inner = f"{option}.{name}"
        if NoneType in get_args(hint):
            yield chosen, inner
        for choice in choices(hint):
            several = any(getattr(part, "__origin__", None) is list for part in (hint, *get_args(hint)))
            named = f"{inner}{'+' * several}={choice.__module__}.{choice.__qualname__}"
            said = [] if is_dataclass(choice) and not several else [named]  # else the type says which class it is
            said += [f"{inner}.{name}=x" for name in required_of(choice)]
            yield from nullable(choice, inner, (*chosen, *said))


def required_of(kind: type) -> list[str]:
    """The required arguments of a class; all are texts."""
    parameters = inspect.signature(kind).parameters.items()
    return [name for name, given in parameters if given.default is given.empty]


def config_of(kind: type) -> str:
    """The shipped configuration of a method."""
    for path in sorted(CONFIGS.glob("*.yaml")):
        if yaml.safe_load(path.read_text())["model"]["class_path"] == f"ssl_nlp.methods.{kind.__name__}":
            return str(path)
    raise AssertionError(f"no configuration in {CONFIGS} is one of {kind}")


def value(config: Any, option: str) -> Any:
    """The value at a path of a configuration; of a list, its last item."""
    for key in option.removeprefix("--").split("."):
        config = config[-1] if isinstance(config, list) else config
        config = config.get("init_args", config)[key]
    return config


# Options that can be given in one command: those of a class, and then those of each class inside of it.
GROUPS: dict[tuple[type, tuple[str, ...], str], list[str]] = {}
for _kind, _root, _class in [
    *((kind, "--model", kind) for kind in shipped(Method)),
    (MaskedLM, "--data", TextDataModule),
]:
    for _chosen, _option in nullable(_class, _root):
        GROUPS.setdefault((_kind, _chosen, _option.rpartition(".")[0]), []).append(_option)


def test_there_are_such_options_at_every_depth():
    found = {option for options in GROUPS.values() for option in options}
    named = {"corpus.label", "corpus.pair", "corpus.test", "corpus.format", "tokenizer.name", "seed"}
    assert {f"--data.{name}" for name in named} <= found
    named = {"encoder", "encoder.dropout", "encoder.config", "optimization.muon_learning_rate", "annealing_steps"}
    assert {f"--model.{name}" for name in named} <= found


@pytest.mark.parametrize(("kind", "chosen", "group"), GROUPS, ids=lambda part: getattr(part, "__name__", None))
def test_null_is_null(kind, chosen, group):
    options = GROUPS[kind, chosen, group]
    plan = yaml.safe_load(plan_fit(["--config", config_of(kind), *chosen, *(f"{option}=null" for option in options)]))
    assert [value(plan, option) for option in options] == [None] * len(options)


def test_lists_keep_what_is_in_them():
    """Line ends, backslashes and quotes of a list of texts, and a null among the settings of a class in a list."""
    data = ["--data.corpus=TextFiles", r"""--data.corpus.train=["a\nb", "c\\d", "it's", null.txt]"""]
    plan = yaml.safe_load(plan_fit(["--config", config_of(MaskedLM), *data]))
    assert value(plan, "--data.corpus.train") == ["a\nb", "c\\d", "it's", "null.txt"]
    views = "--model.views=[{class_path: ssl_nlp.objectives.views.Delete, init_args: {rate: 0.5}}]"
    plan = yaml.safe_load(plan_fit(["--config", config_of(SimCLR), views]))
    assert value(plan, "--model.views.rate") == 0.5
    settings = "--model.encoder.config={hidden_size: 8, pad_token_id: null, tie: true}"
    encoder = ["--model.encoder=PretrainedEncoder", "--model.encoder.name=x"]
    plan = yaml.safe_load(plan_fit(["--config", config_of(MaskedLM), *encoder, settings]))
    assert value(plan, "--model.encoder.config") == {"hidden_size": 8, "pad_token_id": None, "tie": True}


def test_what_is_not_yaml_is_text():
    for text in ("[x", "{1, 2", "a: [b", "None.txt"):
        data = ["--data.corpus=TextFiles", f"--data.corpus.train={text}"]
        plan = yaml.safe_load(plan_fit(["--config", config_of(MaskedLM), *data]))
        assert value(plan, "--data.corpus.train") == text
