"""Classification without training: the words of the classes, ranked by a language model in the gap of a template.

    template: "{text} It was {label}."      words: {positive: good, negative: bad}

A text is given the class whose word is likeliest in its place. Three numbers, because a likelihood falls with every token:

    accuracy             by the log-likelihood, summed over the tokens of a word
    accuracy_per_token   by the sum divided by the number of tokens
    accuracy_per_byte    by the sum divided by the number of UTF-8 bytes, which no tokenizer changes

With `calibration`, each of them once more as `calibrated_...`: the probabilities of the words (normalised to 1 over the
classes) are divided by those after a text without content, such as "N/A" (Zhao et al., arXiv:2102.09690, section 4, for a
diagonal W; several such texts are averaged). It corrects the preference of a model for some of the words.

With `shots`, the prompt begins with that many training examples, solved. They are drawn at random from all training items,
the same for every item, and drawn anew for each of `draws`. Examples for which the encoder has no room are left out, the
first ones first: `examples_cut` is the share of prompts to which this happened, `prompts_cut` the share of those that are
too long even without examples.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.capabilities import WordScorer
from ssl_nlp.evaluation.classification import Classification, Labelled
from ssl_nlp.evaluation.result import Array, Result
from ssl_nlp.objectives.scores import Prompt, WordScores

Rank = Literal["sum", "token", "byte"]
NAMES: dict[Rank, str] = {"sum": "accuracy", "token": "accuracy_per_token", "byte": "accuracy_per_byte"}
PROMPTED = 1_000
"""Test items of prompts read from files: each takes a forward pass or more for every word and draw."""
VALIDATED = 200
"""Validation items of prompts."""
LEVEL = 0.95
"""Of the interval of the accuracy."""

_SLOT = re.compile(r"\{(text|pair|label)\}")


@dataclass(frozen=True)
class Template:
    """How a labelled text is written as a prompt.

    Attributes:
        text: with {label} once, {text}, and {pair} where the data are pairs.
        words: the word that stands for each class.
        separator: between two examples, and between the last one and the prompt.
        shots: examples in the prompt.
        draws: of the examples; one where there are none.
        seed: of the draws.
        rank: which of the three numbers is the main one.
        calibration: texts without content; empty for no calibration.

    Raises:
        UserError: it cannot be used as it is.
    """

    text: str
    words: Mapping[str, str]
    separator: str = "\n\n"
    shots: int = 0
    draws: int = 3
    seed: int = 0
    rank: Rank = "sum"
    calibration: Sequence[str] = ()

    def __post_init__(self) -> None:
        slots = _SLOT.findall(self.text)
        if slots.count("label") != 1 or "text" not in slots:
            raise UserError(f"the template {self.text!r} needs {{text}}, and {{label}} once")
        for name, word in self.words.items():
            if not word.strip() or word != word.strip():
                raise UserError(
                    f"the word {word!r} of label {name!r} is empty or has blanks around it: write it without"
                )
        if twice := [word for word in self.words.values() if list(self.words.values()).count(word) > 1]:
            raise UserError(f"two labels have the word {twice[0]!r}: give each one of its own")
        if self.shots < 0 or self.draws < 1:
            raise UserError(f"shots must be 0 or more and draws 1 or more, not {self.shots} and {self.draws}")
        if self.rank not in get_args(Rank):
            raise UserError(f"rank {self.rank!r} is unknown: use {', '.join(get_args(Rank))}")

    def gap(self, text: str, pair: str | None) -> tuple[str, str]:
        """The text before and after the place of the label."""
        values = {"text": text, "pair": pair or ""}
        before, after = self.text.split("{label}")
        return tuple(_SLOT.sub(lambda slot: values[slot[1]], part) for part in (before, after))  # type: ignore[return-value]  # two

    def example(self, text: str, pair: str | None, label: str) -> str:
        """A solved prompt, and the separator."""
        before, after = self.gap(text, pair)
        return f"{before}{self.words[label]}{after}{self.separator}"


@dataclass(frozen=True)
class Prompts(Classification):
    """The accuracy of the class words that a model finds likeliest, without training.

    Raises:
        UserError: the template does not fit the data.
    """

    needs: ClassVar[type] = WordScorer
    template: Template = field(kw_only=True)

    def __post_init__(self) -> None:
        data, template = self.data, self.template
        if lacking := [name for name in data.classes if name not in template.words]:
            raise UserError(f"{data.name}: the label {lacking[0]!r} has no word: add it to `words`")
        if unknown := [name for name in template.words if name not in data.classes]:
            raise UserError(
                f"{data.name}: no training text has the label {unknown[0]!r} of `words`: correct or remove it"
            )
        paired = "pair" in _SLOT.findall(template.text)
        if paired != (data.train.pairs is not None):
            raise UserError(
                f"{data.name}: the template has {{pair}}, but the data are single texts: remove it, or set `pair`"
                if paired
                else f"{data.name}: the data are pairs, but the template has no {{pair}}: add it"
            )
        if template.shots > len(data.train):
            raise UserError(f"{data.name}: {template.shots} shots need as many training texts, not {len(data.train)}")

    @property
    def validation(self) -> "Prompts":
        return replace(self, data=replace(self.data, test=self.data.valid.first(VALIDATED)))

    @property
    def texts(self) -> list[str]:
        return []

    @property
    def name(self) -> str:
        """Its name in a suite."""
        return f"few_shot_{self.template.shots}" if self.template.shots else "zero_shot"

    @property
    def primary(self) -> str:
        """The name of the main number."""
        return ("calibrated_" if self.template.calibration else "") + NAMES[self.template.rank]

    def majority(self) -> Result:
        result = super().majority()
        same = dict.fromkeys(self._names, result.metrics["accuracy"])
        details = result.details | {"prompts": {"shots": self.template.shots}}
        return Result(self.primary, result.metrics | same, details, result.items)

    @property
    def _names(self) -> list[str]:
        ways = ["", "calibrated_"] if self.template.calibration else [""]
        return [way + name for way in ways for name in NAMES.values()]

    def __call__(self, model: WordScorer) -> Result:
        draws = [self._draw(model, number) for number in range(self.template.draws if self.template.shots else 1)]
        results = [{name: self.result(predicted) for name, predicted in found.items()} for found, _ in draws]
        means = {name: float(np.mean([r[name].primary for r in results])) for name in self._names}
        chosen = [found[self.primary] for found in results]
        right = np.stack([np.asarray(result.items, dtype=np.float64) for result in chosen])
        low, high = interval(right)
        scores = [scored for _, scored in draws]
        means |= {
            "low": low,
            "high": high,
            "macro_f1": float(np.mean([result.metrics["macro_f1"] for result in chosen])),
            "examples_cut": _share([scored.examples_cut for scored in scores]),
            "prompts_cut": _share([scored.tokens_cut for scored in scores]),
        }
        details = chosen[0].details if len(chosen) == 1 else {}
        details["prompts"] = {
            "kind": scores[0].kind,
            "shots": self.template.shots,
            "items": len(self.data.test),
            "level": LEVEL,
            "draws": [{name: found[name].primary for name in self._names} for found in results],
        }
        items = right.mean(axis=0).astype(np.float32)
        return Result(self.primary, means, details, items)

    def _draw(self, model: WordScorer, draw: int) -> tuple[dict[str, Array], WordScores]:
        """The predictions of one draw of examples by the name of the number, and the scores behind them."""
        train, test, classes = self.data.train, self.data.test, self.data.classes
        rows = np.random.default_rng((self.template.seed, draw)).permutation(len(train))[: self.template.shots]
        examples = tuple(self.template.example(*_item(train, row), train.labels[row]) for row in rows)
        words = tuple(self.template.words[name] for name in classes)
        empty = [(text, text if train.pairs else None) for text in self.template.calibration]
        asked = [_item(test, row) for row in range(len(test))] + empty
        scored = model.score_words([Prompt(examples, *self.template.gap(*item), words) for item in asked])
        predicted: dict[str, Array] = {}
        for rank, name in NAMES.items():
            divisor = {"sum": 1, "token": scored.tokens.numpy(), "byte": scored.bytes.numpy()}[rank]
            logits = scored.nats.numpy() / divisor
            predicted[name] = np.array(classes)[logits[: len(test)].argmax(axis=1)]
            if empty:
                prior = np.log(np.exp(_log_softmax(logits[len(test) :])).mean(axis=0))
                predicted[f"calibrated_{name}"] = np.array(classes)[(logits[: len(test)] - prior).argmax(axis=1)]
        return predicted, scored


def _share(cut: Sequence[Tensor]) -> float:
    """The share of prompts of which something was left out."""
    return float((torch.cat(list(cut)) > 0).double().mean())


def _item(part: Labelled, row: int) -> tuple[str, str | None]:
    return part.texts[row], part.pairs[row] if part.pairs else None


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def interval(right: Array) -> tuple[float, float]:
    """Interval (`LEVEL`) of an accuracy over the choice of test items and of examples.

    Args:
        right: (D, N), 1 where the item is right with that draw of examples. With one draw, the interval is over items only.

    Returns:
        Mean -+ sqrt((z s_items)^2 / N + (t s_draws)^2 / D): normal over items, Student's t over draws, within 0 and 1. What
        single draws do to single items is in both deviations, and is subtracted from the first. Where all are right, or all
        wrong, it is Clopper and Pearson's.
    """
    draws, items = right.shape
    if items == 1 or right.min() == right.max():
        reach = 1 - ((1 - LEVEL) / 2) ** (1 / items)
        return max(float(right.mean()) - reach, 0.0), min(float(right.mean()) + reach, 1.0)
    over_items = right.mean(axis=0).var(ddof=1) / items
    if draws == 1:
        reach = stats.norm.ppf((1 + LEVEL) / 2) ** 2 * over_items
    else:
        rest = right - right.mean(axis=0) - right.mean(axis=1, keepdims=True) + right.mean()
        noise = np.square(rest).sum() / (max(items - 1, 1) * (draws - 1)) / (items * draws)
        over_draws = right.mean(axis=1).var(ddof=1) / draws
        reach = stats.norm.ppf((1 + LEVEL) / 2) ** 2 * max(over_items - noise, 0.0)
        reach += stats.t.ppf((1 + LEVEL) / 2, draws - 1) ** 2 * over_draws
    middle, half = float(right.mean()), float(np.sqrt(reach))
    return max(middle - half, 0.0), min(middle + half, 1.0)
