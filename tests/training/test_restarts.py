"""A schedule that begins anew in each part."""

import pytest
import torch
from torch import nn

from ssl_nlp.errors import UserError
from ssl_nlp.training.optimization import Optimization, learning_rate_factor
from ssl_nlp.training.optimizers import build_optimizers, build_schedule
from ssl_nlp.training.players import Player


def test_each_part_has_the_whole_schedule():
    settings = Optimization(learning_rate=1.0, schedule="linear", warmup=2, final=0.0)
    player = {"": Player(nn.Linear(2, 2), settings)}
    optimizer = build_optimizers(player)
    schedule = build_schedule(optimizer, player, 17, restarts=[5, 12, 17])
    rates = []
    for _ in range(17):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [learning_rate_factor(step, steps, settings) for steps in (5, 7, 5) for step in range(steps)]
    assert torch.isfinite(torch.tensor(rates)).all()


def test_a_schedule_of_another_class_cannot_begin_anew():
    settings = Optimization(schedule="torch.optim.lr_scheduler.StepLR", schedule_args={"step_size": 2})
    player = {"": Player(nn.Linear(2, 2), settings)}
    with pytest.raises(UserError, match="set data.restart_schedule to false"):
        build_schedule(build_optimizers(player), player, 10, restarts=[5, 10])
