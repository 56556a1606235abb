"""Optimizers and schedules of torch, or of the user's own file, named in YAML."""

import pytest
import torch
import yaml

from ssl_nlp.methods import MaskedLM
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

OWN = """
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class SignDescent(Optimizer):
    def __init__(self, params, lr, slack=0.0):
        super().__init__(params, {"lr": lr, "slack": slack})

    @torch.no_grad()
    def step(self, closure=None):
        loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad.sign(), alpha=group["lr"] * (1 - group["slack"]))
        return loss


class Halving(LRScheduler):
    def get_lr(self):
        return [rate / 2**self.last_epoch for rate in self.base_lrs]
"""


def test_a_configuration_names_an_optimizer_and_a_schedule_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_optimizer.py").write_text(OWN)
    own = {"optimizer": "own_optimizer.SignDescent", "optimizer_args": {"slack": 0.5}, "learning_rate": 0.01}
    settings = {"model": {"init_args": {"optimization": own | {"schedule": "own_optimizer.Halving"}}}}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(settings))
    arguments = ["fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small(write_texts(tmp_path)), *tiny_encoder()]
    arguments += ["--config", "own.yaml", "--run", "a", "--trainer.max_steps=2"]
    assert run("--import", "own_optimizer.py", *arguments) == 0
    saved = torch.load("runs/a/checkpoints/last.ckpt", weights_only=True)
    [state] = saved["optimizer_states"]
    assert [(group["name"], group["lr"], group["slack"]) for group in state["param_groups"]] == [
        ("decay", 0.0025, 0.5),
        ("no_decay", 0.0025, 0.5),
    ]
    loaded = MaskedLM.load_from_checkpoint("runs/a/checkpoints/last.ckpt")
    assert loaded.optimization.optimizer == "own_optimizer.SignDescent"
