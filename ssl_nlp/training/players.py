"""Players: the parts of a model that are trained by losses and optimizers of their own, as in adversarial training."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_nlp.errors import UserError
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss


@dataclass(frozen=True)
class Player:
    """A part of a model that is trained by a loss and an optimizer of its own.

    Attributes:
        module: has the parameters that it trains.
        optimization: optimizer and schedule.
        terms: of the model's loss, those that it minimises; None: all of them.
        every: it acts in the last of every so many steps. In the others it rests: its parameters and the state of its
            optimizer stay as they are.
    """

    module: nn.Module
    optimization: Optimization
    terms: tuple[str, ...] | None = None
    every: int = 1

    def __post_init__(self) -> None:
        if self.every < 1:
            raise UserError(f"every of a player must be 1 or more, not {self.every}")

    def parameters(self) -> list[nn.Parameter]:
        """The parameters that require a gradient."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]


def acting_in(step: int, players: Mapping[str, Player]) -> frozenset[str]:
    """The names of the players that act in a step of the training, the first of which is 0."""
    return frozenset(name for name, player in players.items() if (step + 1) % player.every == 0)


def losses(loss: Loss, targets: Mapping[str, Tensor], players: Mapping[str, Player], acting: Collection[str]) -> Tensor:
    """The losses that the acting players minimise: (P,) for P of them, or a scalar where there is only one player.

    Args:
        loss: of a batch.
        targets: as for `Loss.over`.
        players: all of them.
        acting: the names of those that act.
    """
    found = [loss.over(targets, player.terms) for name, player in players.items() if name in acting]
    return found[0] if len(players) == 1 else torch.stack(found)


def backward(losses: Tensor, players: Mapping[str, Player], acting: Collection[str], distributed: bool) -> None:
    """Give each player that acts the gradient of its own loss, and the others none, so that no optimizer moves them.

    Args:
        losses: (P,), of the P players that act, in their order.
        players: all of them.
        acting: the names of those that act.
        distributed: whether the gradients are averaged over processes by DDP, which waits for those of all parameters.
    """
    trained = [player.parameters() for name, player in players.items() if name in acting]
    resting = [parameter for name, player in players.items() if name not in acting for parameter in player.parameters()]
    if resting and distributed:
        torch.stack([(parameter * 0).sum().float() for parameter in resting]).sum().backward(inputs=resting)
    for number, (loss, parameters) in enumerate(zip(losses, trained, strict=True), start=1):
        loss.backward(inputs=parameters, retain_graph=number < len(trained))
    for parameter in resting:
        parameter.grad = None
