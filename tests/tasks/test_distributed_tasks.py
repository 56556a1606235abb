"""Every task in two processes that talk over gloo, spawned once for all of them: they equal one process with all rows."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tests.methods.test_distributed_methods import Step
from tests.tasks.cases import CASES

pytestmark = pytest.mark.slow

RANKS = 2
ROWS = (8, 7)  # of all ranks together, in each of the steps


def train(name: str, rank: int, ranks: int) -> dict[str, Tensor]:
    """The losses, and the weights after two steps. Nothing is drawn at random."""
    torch.manual_seed(0)
    case = CASES[name]
    task, data = case.made(0.0), case.data()
    task.connect_data(data, "fit")
    task.train()
    task.regularizers = list(case.regularizers())
    step = Step(task)  # type: ignore[arg-type]  # it takes any module
    module = DistributedDataParallel(step) if ranks > 1 else step
    optimizer = torch.optim.SGD(task.parameters(), 0.1)  # AdamW would blow up rounding
    record: dict[str, Tensor] = {}
    rows = data.rows("train")
    for number, size in enumerate(ROWS):
        optimizer.zero_grad()
        loss = module(rows[range(10 * number, 10 * number + size)[rank::ranks]])
        loss.backward()
        record[f"loss {number}"] = loss.detach()
        optimizer.step()
    return record | {key: value.clone() for key, value in task.state_dict().items()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    torch.save({name: train(name, rank, RANKS) for name in CASES}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Tensor]]:
    return {name: train(name, 0, 1) for name in CASES}  # first, so that the caches are there


@pytest.fixture(scope="module")
def ranks(alone, tmp_path_factory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, (str(folder),), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one_that_has_all(name, ranks, alone):
    for key, value in alone[name].items():
        first, second = (record[name][key] for record in ranks)
        if key.startswith("loss"):
            torch.testing.assert_close((first + second) / 2, value, atol=1e-4, rtol=1e-4)
        else:
            assert torch.equal(first, second), key
            torch.testing.assert_close(first, value, atol=1e-4, rtol=1e-3, msg=lambda text, key=key: f"{key}: {text}")
