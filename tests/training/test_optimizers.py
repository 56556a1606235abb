"""Parameter groups against a model with one of everything, Muon against the SVD, and any class of torch by its path."""

import copy
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from ssl_nlp.errors import UserError
from ssl_nlp.training import muon
from ssl_nlp.training.muon import orthogonalize
from ssl_nlp.training.optimization import Optimization, learning_rate_factor
from ssl_nlp.training.optimizers import build_optimizer, build_optimizers, flops_of_step
from ssl_nlp.training.players import Player

OPTIMIZERS: list[Literal["adamw", "muon"]] = ["adamw", "muon"]


# ------------------------------------------------------------------------------------------------------------ groups


class RMSNormOfOurOwn(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))


class Everything(nn.Module):
    """One of each kind of parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.square = nn.Linear(8, 8)
        self.wide = nn.Linear(8, 24, bias=False)
        self.layer_norm = nn.LayerNorm(8)
        self.own_norm = RMSNormOfOurOwn(8)
        self.recurrent = nn.GRU(8, 4)
        self.convolution = nn.Conv1d(8, 8, 3)
        self.temperature = nn.Parameter(torch.zeros(()))
        self.scale = nn.Parameter(torch.ones(8))
        self.output = nn.Linear(8, 20)
        self.tied = nn.Linear(8, 20, bias=False)
        self.tied.weight = self.embedding.weight
        self.frozen = nn.Linear(8, 8)
        self.frozen.requires_grad_(False)


VECTORS = {
    "embedding.weight", "square.bias", "layer_norm.weight", "layer_norm.bias", "own_norm.weight", "recurrent.bias_ih_l0",
    "recurrent.bias_hh_l0", "convolution.bias", "temperature", "scale", "output.bias",
}  # fmt: skip
HIDDEN_MATRICES = {"square.weight", "wide.weight", "recurrent.weight_ih_l0", "recurrent.weight_hh_l0"}
OTHERS = {"convolution.weight", "output.weight"}


def groups_by_name(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, list[str]]:
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return {group["name"]: [names[id(p)] for p in group["params"]] for group in optimizer.param_groups}


def test_groups_hold_every_trainable_parameter_once() -> None:
    module = Everything()
    adamw = groups_by_name(module, build_optimizer(module, Optimization(optimizer="adamw")))
    muon = groups_by_name(module, build_optimizer(module, Optimization(optimizer="muon")))
    assert {name: set(members) for name, members in adamw.items()} == {
        "decay": HIDDEN_MATRICES | OTHERS,
        "no_decay": VECTORS,
    }
    assert {name: set(members) for name, members in muon.items()} == {
        "muon": HIDDEN_MATRICES,
        "decay": OTHERS,
        "no_decay": VECTORS,
    }
    for groups in (adamw, muon):
        members = [name for group in groups.values() for name in group]
        assert sorted(members) == sorted(name for name, p in module.named_parameters() if p.requires_grad)


def test_a_vocabulary_as_large_as_the_width_hides_no_matrix_from_muon() -> None:
    module = nn.Sequential(nn.Embedding(8, 8), nn.Linear(8, 8))
    assert groups_by_name(module, build_optimizer(module, Optimization(optimizer="muon")))["muon"] == ["1.weight"]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_without_gradient_only_the_decayed_shrink(optimizer: Literal["adamw", "muon"]) -> None:
    module = Everything()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    opt = Optimization(optimizer=optimizer, learning_rate=0.1, muon_learning_rate=0.2, weight_decay=0.5)
    build_optimizer(module, opt).step()
    for name, p in module.named_parameters():
        rate = 0.2 if optimizer == "muon" and name in HIDDEN_MATRICES else 0.1
        factor = 1 - rate * 0.5 if name in HIDDEN_MATRICES | OTHERS else 1
        torch.testing.assert_close(p.detach(), before[name] * factor, msg=name)


def test_nothing_to_train_is_said() -> None:
    with pytest.raises(UserError, match="nothing to train: all parameters are frozen"):
        build_optimizer(nn.Linear(2, 2).requires_grad_(False), Optimization())
    with pytest.raises(UserError, match=r"muon finds no whole matrix .* set adamw"):
        build_optimizer(nn.LayerNorm(4), Optimization(optimizer="muon"))


# ---------------------------------------------------------------------------------------------------------------- muon


def matrices(rows: int, columns: int, condition: float = 0.1) -> Tensor:
    """Three matrices with singular values from `condition` to 1 and arbitrary size."""
    generator = torch.Generator().manual_seed(rows * columns)
    rank = min(rows, columns)
    left = torch.linalg.qr(torch.randn(3, rows, rank, generator=generator)).Q
    right = torch.linalg.qr(torch.randn(3, columns, rank, generator=generator)).Q
    values = torch.linspace(condition, 1, rank)
    return (left * values) @ right.mT * torch.tensor([1e-6, 1.0, 1e4])[:, None, None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (8, 8), (32, 8), (8, 32), (48, 47)])
def test_orthogonalized_matrices_keep_their_singular_vectors(
    rows: int, columns: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(muon, "_quick_dtype", lambda device: dtype)
    given = matrices(rows, columns)
    result = orthogonalize(given).float()
    assert result.shape == given.shape
    values = torch.linalg.svdvals(result)
    assert 0.65 < values.min() <= values.max() < 1.35
    left, _, right = torch.linalg.svd(given, full_matrices=False)
    aligned = left.mT @ result @ right.mT  # diagonal if the singular vectors are the same
    off_diagonal = aligned - torch.diag_embed(aligned.diagonal(dim1=1, dim2=2))
    assert off_diagonal.abs().max() < (1e-3 if dtype == torch.float32 else 0.05)


def test_a_zero_matrix_stays_zero() -> None:
    assert not orthogonalize(torch.zeros(2, 3, 4)).any()


@pytest.mark.parametrize("matched", [False, True])
def test_muon_equals_torchs_own(matched: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With iterations that converge on both sides, since the coefficients of the few steps differ."""
    converging = (15 / 8, -10 / 8, 3 / 8)
    monkeypatch.setattr(muon, "NEWTON_SCHULZ", (converging,) * 20)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 32, bias=False), nn.Linear(32, 8, bias=False), nn.Linear(8, 8, bias=False))
    twin = copy.deepcopy(module)
    rates = {"learning_rate": 0.02, "muon_learning_rate": None} if matched else {"muon_learning_rate": 0.02}
    ours = build_optimizer(module, Optimization(optimizer="muon", weight_decay=0.3, **rates))
    adjust = "match_rms_adamw" if matched else "original"
    theirs = torch.optim.Muon(
        twin.parameters(), 0.02, weight_decay=0.3, adjust_lr_fn=adjust, ns_coefficients=converging, ns_steps=20
    )
    start = [p.detach().clone() for p in module.parameters()]
    for _ in range(4):
        for p, q in zip(module.parameters(), twin.parameters(), strict=True):
            p.grad = torch.randn_like(p)
            q.grad = p.grad.clone()
        ours.step()
        theirs.step()
    for p, q, before in zip(module.parameters(), twin.parameters(), start, strict=True):
        assert (p - q).norm() < 0.03 * (q - before).norm()  # bfloat16


# -------------------------------------------------------------------------------------------------------- as optimizer


def train(module: nn.Module, optimizer: torch.optim.Optimizer, schedule: LambdaLR, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(4, 8, generator=torch.Generator().manual_seed(step))

        def closure(inputs: Tensor = inputs) -> float:
            optimizer.zero_grad()
            loss: Tensor = module(inputs).square().mean()
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 0.1)
            return loss.item()

        assert optimizer.step(closure) > 0
        schedule.step()


def parts(optimizer: Literal["adamw", "muon"]) -> tuple[nn.Module, torch.optim.Optimizer, LambdaLR]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8))
    opt = Optimization(optimizer=optimizer, learning_rate=0.01)
    built = build_optimizer(module, opt)
    return module, built, LambdaLR(built, lambda step: learning_rate_factor(step, 10, opt))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_restored_optimizer_continues_to_the_bit(optimizer: Literal["adamw", "muon"], tmp_path: Path) -> None:
    module, built, schedule = parts(optimizer)
    train(module, built, schedule, range(4))
    states = {"module": module.state_dict(), "optimizer": built.state_dict(), "schedule": schedule.state_dict()}
    torch.save(states, tmp_path / "state.pt")
    train(module, built, schedule, range(4, 8))

    restored, rebuilt, reschedule = parts(optimizer)
    loaded = torch.load(tmp_path / "state.pt", weights_only=True)
    restored.load_state_dict(loaded["module"])
    rebuilt.load_state_dict(loaded["optimizer"])
    reschedule.load_state_dict(loaded["schedule"])
    train(restored, rebuilt, reschedule, range(4, 8))
    for p, q in zip(module.parameters(), restored.parameters(), strict=True):
        assert torch.equal(p, q)
    for key, state in built.state_dict()["state"].items():
        for name, value in state.items():
            assert torch.equal(value, rebuilt.state_dict()["state"][key][name])


def test_the_schedule_moves_all_groups_and_what_they_do() -> None:
    module, built, schedule = parts("muon")
    assert {group["name"]: group["initial_lr"] for group in built.param_groups} == {"muon": 0.02, "no_decay": 0.01}
    for _ in range(10):
        built.step()  # without gradients: it moves nothing
        schedule.step()
    final = Optimization().final
    assert [group["lr"] for group in built.param_groups] == pytest.approx([0.02 * final, 0.01 * final])
    for group in built.param_groups:
        group["lr"] = 0.0
    before = copy.deepcopy(module.state_dict())
    train(module, built, LambdaLR(built, lambda step: 0.0), range(3))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_parameters_without_a_gradient_stay(optimizer: Literal["adamw", "muon"]) -> None:
    module, built, _ = parts(optimizer)
    before = copy.deepcopy(module.state_dict())
    next(iter(module.parameters())).grad = torch.ones(8, 8)
    built.step()
    changed = [name for name, value in module.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["0.weight"]
    built.zero_grad()
    assert all(p.grad is None for p in module.parameters())


@pytest.mark.parametrize("frozen", [(), ("wide",), ("square", "wide", "recurrent")], ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_flops_of_a_step_are_those_of_its_matrix_products(
    optimizer: Literal["adamw", "muon"], frozen: tuple[str, ...]
) -> None:
    players = {name: Player(Everything(), Optimization(optimizer=optimizer)) for name in ("one", "other")}
    built = build_optimizers(players)
    for name, parameter in players["one"].module.named_parameters():
        parameter.grad = None if name.startswith(frozen) else torch.randn_like(parameter)
    with FlopCounterMode(display=False) as counter:
        built.step()
    assert flops_of_step(built) == counter.get_total_flops()
    assert (counter.get_total_flops() > 0) == (optimizer == "muon" and "square" not in frozen)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_copied_optimizer_works_on_its_copy(optimizer: Literal["adamw", "muon"]) -> None:
    module, built, schedule = parts(optimizer)
    train(module, built, schedule, range(2))
    twin, rebuilt = copy.deepcopy((module, built))
    train(module, built, LambdaLR(built, lambda step: 1.0), range(2, 4))
    train(twin, rebuilt, LambdaLR(rebuilt, lambda step: 1.0), range(2, 4))
    for p, q in zip(module.parameters(), twin.parameters(), strict=True):
        assert p is not q
        assert torch.equal(p, q)


class Regression(LightningModule):
    """The least that Lightning trains."""

    def __init__(self, optimizer: Literal["adamw", "muon"]) -> None:
        super().__init__()
        self.layers = parts(optimizer)[0]
        self.settings = Optimization(optimizer=optimizer, learning_rate=0.01)

    def training_step(self, batch: Tensor) -> Tensor:
        return self.layers(batch).float().square().mean()

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self, self.settings)
        schedule = LambdaLR(optimizer, lambda step: learning_rate_factor(step, 6, self.settings))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_lightning_clips_and_resumes_to_the_bit(
    optimizer: Literal["adamw", "muon"], precision: Literal["32-true", "bf16-mixed"], tmp_path: Path
) -> None:
    # Always the same batch: where a loader resumes is not the subject here.
    batches: Any = [torch.randn(4, 8, generator=torch.Generator().manual_seed(0))] * 3

    def fit(steps: int, checkpoint: Path | None = None) -> tuple[Regression, Trainer]:
        trainer = Trainer(
            max_steps=steps, precision=precision, gradient_clip_val=0.1, accelerator="cpu", logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path, use_distributed_sampler=False,
        )  # fmt: skip
        module = Regression(optimizer)
        trainer.fit(module, DataLoader(batches, batch_size=None), ckpt_path=checkpoint, weights_only=True)
        return module, trainer

    whole, _ = fit(6)
    _, trainer = fit(3)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, resumed_trainer = fit(6, tmp_path / "half.ckpt")
    assert resumed_trainer.global_step == 6
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(p, q)
