"""A model that lacks a capability has no number, with the reason, and causes no error."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ssl_nlp.evaluation import Drawer, Embedder, Evaluator, Generator, LanguageModelling, Predictor, Result, Scorer
from ssl_nlp.evaluation.capabilities import lacks
from ssl_nlp.evaluation.pooling import Poolings
from ssl_nlp.evaluation.run import run_evaluators
from ssl_nlp.objectives.scores import Scores
from tests.evaluation.vectors import Hashed


class Writer:
    def generate(self, prompts, max_new_tokens=3):
        return [f"{prompt} and so on" for prompt in prompts]


class Dreamer:
    def draw(self, number, max_new_tokens=3):
        return ["a dream"] * number


class Guesser:
    """Each letter costs a nat."""

    likelihood = "likelihood"

    def score(self, texts):
        letters = torch.tensor([len(text) for text in texts])
        return Scores("likelihood", letters.double(), letters, letters)


@dataclass(frozen=True)
class Length(Evaluator):
    """The mean length of continuations."""

    needs = Generator

    def __call__(self, model):
        return Result("letters", {"letters": float(np.mean([len(text) for text in model.generate(["a", "b"])]))})


@dataclass(frozen=True)
class Width(Evaluator):
    def __call__(self, model):
        return Result("width", {"width": float(model.embed(["a"]).shape[1])})


@dataclass(frozen=True)
class Broken(Evaluator):
    def __call__(self, model):
        return Result("score", {"score": float("nan")})


SUITE = {"width": Width(), "length": Length(), "language_modelling": LanguageModelling(["abc", "d"])}


def test_a_model_is_evaluated_on_what_it_can_do_and_the_rest_is_missing_with_a_reason():
    outcome = run_evaluators(SUITE, Hashed(), Poolings({"mean": Hashed(7)}))
    assert outcome.results["width"].metrics == {"width": 7}
    assert outcome.missing == {
        "length": "Hashed generates no text",
        "language_modelling": "Hashed gives no likelihood of a text",
    }
    outcome = run_evaluators(SUITE, Writer(), None)
    assert outcome.results["length"].metrics == {"letters": 11}
    assert outcome.missing["width"] == "Writer embeds no text"
    assert run_evaluators(SUITE, Guesser(), None).results["language_modelling"].metrics["loss"] == 1


def test_a_number_that_is_not_finite_is_missing_with_a_reason():
    outcome = run_evaluators({"broken": Broken(), "width": Width()}, None, Poolings({"mean": Hashed(7)}))
    assert outcome.results.keys() == {"width"}
    assert outcome.missing == {"broken": "its score is nan"}


def test_a_model_of_several_is_evaluated_by_its_parts():
    class Both:
        def __init__(self):
            self.objectives = {"writer": Writer(), "guesser": Guesser(), "other": Guesser()}

    outcome = run_evaluators(SUITE, Both(), None)
    assert outcome.results.keys() == {"writer.length", "guesser.language_modelling", "other.language_modelling"}
    assert outcome.missing == {"width": "Both embeds no text"}


@pytest.mark.parametrize(
    ("model", "able"), [(Hashed(), {Embedder}), (Writer(), {Generator}), (Dreamer(), {Drawer}), (Guesser(), {Scorer})]
)
def test_capabilities_are_seen_by_what_a_model_has(model, able):
    assert {needs for needs in (Drawer, Embedder, Generator, Predictor, Scorer) if lacks(model, needs) is None} == able


def test_an_encoder_of_sentence_transformers_embeds():
    class Encoding:
        def encode(self, sentences):
            return Hashed().embed(sentences).numpy()

    assert lacks(Encoding(), Embedder) is None
