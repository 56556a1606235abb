"""Several objectives over one encoder, such as BERT's two (arXiv:1810.04805, section 3.1), minimised together.

    loss = sum over objectives of weight * loss of the objective

Each objective sees the same batch in its own way: masked, as two views, or causally, where the encoder can be both. A task
may be one of them, such as tagging parts of speech: it alone sees the labels.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain, combinations, count
from math import inf
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.encoders import Encoder
from ssl_nlp.encoders.no_encoder import NoEncoder
from ssl_nlp.errors import refuse
from ssl_nlp.methods.base import Method
from ssl_nlp.seeding import random_state_kept
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.parts import counts_only
from ssl_nlp.training.sums import Loss
from ssl_nlp.training.texts import TextModule


class MultiObjective(Method):
    """A weighted sum of the losses of several methods, or of methods and tasks.

    Its embedding comes from the encoder alone: the mean of the states (the last, if all objectives are causal), without the
    additions of an objective, such as the part embeddings of `MaskedLM` with `sentence_pairs` or the posterior of a `VAE`.
    For those, use the method in `objectives`.

    Terms and metrics of an objective are logged under its short name, with a number where a class occurs twice.

    Args:
        encoder: shared by all objectives.
        objectives: methods and tasks without an encoder; their own `optimization` and `compile` are ignored. With a task,
            `data.labels` names the kind of labels that it reads.
        weights: one for each objective; None: 1 each.
        gradient_cosine_every: steps between two measurements of the cosine between the gradients that the objectives have
            for the encoder (arXiv:2001.06782, section 2); each costs a backward pass, and there is none while the encoder
            is frozen. None: never.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line.
    """

    loss_unit = "nats, weighted sum"

    def __init__(
        self,
        encoder: Encoder | None = None,
        objectives: Sequence[TextModule] = (),
        weights: list[float] | None = None,
        gradient_cosine_every: int | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, optimization, compile)
        self.weights = [1.0] * len(objectives) if weights is None else weights
        self.gradient_cosine_every = gradient_cosine_every
        directions = {objective.causal for objective in objectives} - {None}
        self.causal = all(directions) if directions else None
        self.pooling = "last" if self.causal else "mean"
        shared = [unit for unit in Method.all_units if all(unit in objective.units for objective in objectives)]
        self.units = tuple(shared)
        self._names = _distinct([objective.short_name for objective in objectives])
        taken = {*dir(self), *Method.__annotations__}  # attributes of a method, now and once it is connected
        unfit = [repr(name) for name in self._names if name in taken or not re.fullmatch(r"[\w-]+", name)]
        counted = [type(o).__name__ for o in objectives if isinstance(getattr(o, "encoder", None), NoEncoder)]
        adversarial = [type(o).__name__ for o in objectives if type(o).players is not Method.players]
        problems = {
            "it needs at least one of `objectives`": not objectives,
            f"{len(objectives)} objectives have {len(self.weights)} weights": len(self.weights) != len(objectives),
            f"weights must all be positive and finite, not {self.weights}": not all(0 < w < inf for w in self.weights),
            f"gradient_cosine_every must be 1 or more, not {gradient_cosine_every}": (
                gradient_cosine_every is not None and gradient_cosine_every < 1
            ),
            f"{', '.join(adversarial)} has several players and must be trained alone": adversarial,
            f"{', '.join(counted)} has no encoder to share and must be trained alone": counted,
            "an objective has an encoder of its own: leave it out": (
                not counted and any(hasattr(o, "encoder") for o in objectives)
            ),
            f"{', '.join(unfit)} cannot be the name of an objective: give its class another short_name": unfit,
            f"no unit serves all of {', '.join(type(o).__name__ for o in objectives)}": not shared,
        }
        refuse(problems, "MultiObjective")
        for name, objective in zip(self._names, objectives, strict=True):
            self.add_module(name, objective)

    @property
    def objectives(self) -> dict[str, TextModule]:
        """The methods and tasks by the names under which they log."""
        return {name: self.get_submodule(name) for name in self._names}  # type: ignore[misc]  # they are modules of ours

    def build(self) -> None:
        for objective in self.objectives.values():
            objective.borrow(self.encoder)
            objective.prepare(self.tokenizer)

    def take_facts(self, data: TextDataModule, stage: str) -> None:
        super().take_facts(data, stage)
        for objective in self.objectives.values():
            objective.take_facts(data, stage)

    def take_settled(self, arguments: Mapping[str, Any]) -> None:
        for objective, described in zip(self.objectives.values(), arguments["objectives"], strict=True):
            objective.take_settled(described["init_args"])

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        for objective in self.objectives.values():
            objective.check_data(data)

    def take_counts(self, data: TextDataModule) -> None:
        super().take_counts(data)
        for objective in self.objectives.values():
            objective.take_counts(data)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        for objective in self.objectives.values():
            objective.on_validation_epoch_start()

    on_test_epoch_start = on_validation_epoch_start

    def visible(self, batch: TokenBatch) -> TokenBatch:
        return batch  # each objective is shown what it may see

    def loss(self, batch: TokenBatch) -> Loss:
        losses = {}
        for name, objective in self.objectives.items():
            # In a validation each draws as if it were alone, so that its numbers are those it would have alone.
            with nullcontext() if self.training else random_state_kept(self.device):
                seen = objective.visible(replace(batch, causal=objective.causal))
                losses[name] = objective.loss(seen) if self.training else objective.validation_loss(seen)
        together = Loss({})
        for (name, loss), weight in zip(losses.items(), self.weights, strict=True):
            together.terms |= {
                f"{name}/{k}": term._replace(weight=weight * term.weight) for k, term in loss.terms.items()
            }
            together.metrics |= {f"{name}/{k}": pair for k, pair in loss.metrics.items()}
            together.totals |= {f"{name}/{k}": total for k, total in loss.totals.items()}
        if self.training and torch.is_grad_enabled() and self._measures_gradients():
            together.metrics |= self._gradient_cosines(losses)
        return together

    def _measures_gradients(self) -> bool:
        return (
            self.gradient_cosine_every is not None and self.step % self.gradient_cosine_every == 0 and not counts_only()
        )

    def _gradient_cosines(self, losses: dict[str, Loss]) -> dict[str, tuple[Tensor, Tensor]]:
        """The cosine of each pair of objectives on the batch of this rank; none while the encoder is frozen."""
        shared = [parameter for parameter in self.encoder.parameters() if parameter.requires_grad]
        if not shared:
            return {}
        gradients = {}
        for name, loss in losses.items():
            found = torch.autograd.grad(loss.mean(), shared, retain_graph=True, materialize_grads=True)
            gradients[name] = torch.cat([gradient.flatten().float() for gradient in found])
        one = torch.ones((), dtype=torch.int64, device=self.device)
        return {
            f"gradient_cosine/{a}/{b}": (F.cosine_similarity(gradients[a], gradients[b], dim=0), one)
            for a, b in combinations(gradients, 2)
        }

    def after_step(self) -> None:
        for objective in self.objectives.values():
            objective.after_step()

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        summary = dict(means)
        for name, objective in self.objectives.items():
            prefixes = {f"loss/{name}/": "loss/", f"{name}/": ""}
            own = {
                short + k.removeprefix(p): v
                for k, v in means.items()
                for p, short in prefixes.items()
                if k.startswith(p)
            }
            summary = {key: value for key, value in summary.items() if not key.startswith(tuple(prefixes))}
            for key, value in objective.summarize(own, statistics).items():
                prefix = f"loss/{name}/" if key.startswith("loss/") else f"{name}/"
                summary[prefix + key.removeprefix("loss/")] = value
        return summary

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        return self._shown({name: objective.samples(texts) for name, objective in self.objectives.items()})

    def sample_documents(self, documents: list[Any]) -> list[dict[str, str]]:
        return self._shown({name: objective.sample_documents(documents) for name, objective in self.objectives.items()})

    def _shown(self, samples: dict[str, list[dict[str, str]]]) -> list[dict[str, str]]:
        """The samples of all objectives, by name, as rows with the same columns."""
        return [
            {"objective": name, "sample": "  |  ".join(f"{column}: {text}" for column, text in row.items())}
            for name, rows in samples.items()
            for row in rows
        ]


def _distinct(names: Sequence[str]) -> list[str]:
    """The names, made distinct by a number from 2 on."""
    distinct: list[str] = []
    for name in names:
        numbered = (f"{name}_{number}" for number in count(2))
        distinct.append(next(free for free in chain([name], numbered) if free not in distinct))
    return distinct
