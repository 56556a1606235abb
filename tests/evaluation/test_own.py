"""An evaluator of the user's own in a suite: found among loaded classes only, and checked before it runs."""

import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import Evaluator, Result
from ssl_nlp.evaluation.files_suite import files_suite


@dataclass(frozen=True)
class Letters(Evaluator):
    """How many letters the texts have, which needs no embedding."""

    path: str
    least: int = 0

    @property
    def texts(self):
        return Path(self.path).read_text().splitlines()

    def __call__(self, model):
        return Result("letters", {"letters": float(sum(len(t) for t in self.texts if len(t) >= self.least))})


class Plain(Evaluator):
    """Not a dataclass."""

    def __call__(self, model):
        raise NotImplementedError


class NoEvaluator:
    pass


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = ModuleType("mine")
    module.Letters, module.Plain, module.NoEvaluator = Letters, Plain, NoEvaluator
    monkeypatch.setitem(sys.modules, "mine", module)
    Path("texts.txt").write_text("a dog\na cat sees it\n")
    return tmp_path


def suite(**given):
    Path("suite.yaml").write_text(json.dumps({"name": "own", "data": {"letters": given}}))
    return files_suite("suite.yaml")


def test_it_is_one_of_the_evaluators_and_its_arguments_and_texts_are_in_the_fingerprint():
    given = {"class_path": "mine.Letters", "init_args": {"path": "texts.txt"}}
    found = suite(**given)
    assert list(found.evaluators) == ["letters"]
    assert found.texts == ["a dog", "a cat sees it"]
    assert found.evaluators["letters"](None).primary == 18
    assert suite(**given).fingerprint == found.fingerprint
    other = suite(class_path="mine.Letters", init_args={"path": "texts.txt", "least": 9})
    assert other.evaluators["letters"](None).primary == 13
    Path("texts.txt").write_text("a dog\n")
    assert len({found.fingerprint, other.fingerprint, suite(**given).fingerprint}) == 3


def test_its_code_is_in_the_fingerprint_and_in_its_digest(monkeypatch):
    """Otherwise a change of it would meet the numbers that baselines and runs had before."""
    given = {"class_path": "mine.Letters", "init_args": {"path": "texts.txt"}}
    before = suite(**given)
    digests = before.digests, before.fingerprint
    source = inspect.getsource(sys.modules[__name__])
    monkeypatch.setattr(inspect, "getsource", lambda module: source + "# changed")
    assert suite(**given).digests != digests[0] and suite(**given).fingerprint != digests[1]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"class_path": "theirs.Letters"}, "theirs.Letters is not known: name its file with --import FILE.py"),
        ({"class_path": "this.Zen"}, "this.Zen is not known"),
        ({"class_path": "os.system", "init_args": {"command": "true"}}, "os.system is not an evaluator"),
        ({"class_path": "subprocess.Popen", "init_args": {"args": "true"}}, "subprocess.Popen is not an evaluator"),
        ({"class_path": "mine.NoEvaluator"}, "make it a subclass of ssl_nlp.evaluation.Evaluator"),
        ({"class_path": "ssl_nlp.evaluation.Evaluator"}, "is not an evaluator"),
        ({"class_path": "mine.Plain"}, "is not a dataclass"),
        (
            {"class_path": "mine.Letters", "init_args": {"file": "texts.txt"}},
            "unknown `file`, no `path`; Letters takes",
        ),
        ({"class_path": "mine.Letters", "init_args": {"path": "none.txt"}}, "No such file"),
        ({"class_path": "mine.Letters", "init_args": {"path": None}}, "mine.Letters does not work with its init_args"),
        ({"class_path": "mine.Letters", "init_args": ["texts.txt"]}, "`init_args` of mine.Letters are not"),
        ({"class_path": ["mine"], "init_args": {}}, "is not known"),
        ({"class_path": "mine.Letters", "task": "similarity"}, "unknown `task`"),
    ],
)
def test_every_mistake_has_a_line(given, complaint):
    with pytest.raises(UserError) as caught:
        suite(**given)
    assert complaint in str(caught.value)
    assert "suite.yaml, letters" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_imported_because_of_a_name(folder, monkeypatch):
    (folder / "bomb.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(UserError, match="bomb.Evaluator is not known"):
        suite(class_path="bomb.Evaluator")
    assert "bomb" not in sys.modules
