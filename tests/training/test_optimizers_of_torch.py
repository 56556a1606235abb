"""Any optimizer and schedule of torch by its path, beside the same ones in a loop of their own."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from ssl_nlp.errors import UserError
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.optimizers import build_optimizers, build_schedule
from ssl_nlp.training.players import Player


def test_any_optimizer_and_schedule_of_torch_serves_by_its_path() -> None:
    """Weight decay spares norms and biases, as with ours."""
    module = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3))
    twin = copy.deepcopy(module)
    settings = Optimization(
        "torch.optim.RMSprop",
        learning_rate=0.02,
        weight_decay=0.3,
        optimizer_args={"momentum": 0.5},
        schedule="torch.optim.lr_scheduler.StepLR",
        schedule_args={"step_size": 2, "gamma": 0.1},
    )
    player = {"": Player(module, settings)}
    built = build_optimizers(player)
    schedule = build_schedule(built, player, math.inf)
    groups = [
        {"params": [twin[0].weight], "weight_decay": 0.3},
        {"params": [twin[0].bias, *twin[1].parameters()], "weight_decay": 0.0},
    ]
    own = torch.optim.RMSprop(groups, lr=0.02, momentum=0.5)
    own_schedule = torch.optim.lr_scheduler.StepLR(own, step_size=2, gamma=0.1)
    for step in range(5):
        for model, optimizer, rates in ((module, built, schedule), (twin, own, own_schedule)):
            torch.manual_seed(step)
            optimizer.zero_grad()
            model(torch.randn(4, 3)).square().sum().backward()
            optimizer.step()
            rates.step()
    assert built.param_groups[0]["lr"] == pytest.approx(0.02 * 0.1**2)
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "rmsprop"}, "optimizer 'rmsprop' is unknown: use adamw, muon or the path of a class"),
        ({"optimizer": "torch.optim.Nothing"}, "torch.optim.Nothing is not the path of a known Optimizer"),
        ({"optimizer": "torch.nn.Linear"}, "torch.nn.Linear is not the path of a known Optimizer"),
        (
            {"optimizer": "torch.optim.SGD", "optimizer_args": {"speed": 1}},
            "does not take these optimizer_args: .*speed",
        ),
        ({"optimizer_args": {"momentum": 1}}, "optimizer adamw takes no optimizer_args"),
        ({"optimizer": "torch.optim.SGD", "optimizer_args": {"lr": 1}}, "set learning_rate or weight_decay instead"),
        ({"schedule": "os.system"}, "os.system is not the path of a known LRScheduler"),
        ({"schedule": "torch.optim.lr_scheduler.StepLR"}, "does not take these schedule_args: .*step_size"),
        ({"schedule": "torch.optim.lr_scheduler.ReduceLROnPlateau"}, "follows a metric, not the steps"),
    ],
)
def test_a_class_that_cannot_serve_is_refused(settings: dict[str, Any], message: str) -> None:
    def build() -> None:
        player = {"": Player(nn.Linear(2, 2), Optimization(**settings))}
        build_schedule(build_optimizers(player), player, 10)

    with pytest.raises(UserError, match=message):
        build()
