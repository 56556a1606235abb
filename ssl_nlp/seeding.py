"""Random numbers: the run's seed, and generators seeded from it and from the position of the run.

Masks, dropout and samples depend on (seed, batch, rank) alone, so that a resumed run continues as if it had never stopped.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch


def run_seed() -> int:
    """The run's seed, set by `seed_everything`."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))


@contextmanager
def run_seed_set_to(seed: int) -> Iterator[None]:
    """Let what is trained in a `with` block have another seed than the process."""
    before = os.environ.get("PL_GLOBAL_SEED")
    os.environ["PL_GLOBAL_SEED"] = str(seed)
    try:
        yield
    finally:
        os.environ.pop("PL_GLOBAL_SEED")
        os.environ |= {} if before is None else {"PL_GLOBAL_SEED": before}


def seed_generators(device: torch.device, *numbers: int) -> None:
    """Seed the generators of the CPU and of `device` from a mixture of `numbers`.

    `torch.manual_seed` seeds every kind of accelerator, and without one it keeps the request and a stack trace for later:
    a millisecond and some memory in each step.
    """
    seed = _mix(*numbers)
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
    elif device.type != "cpu":
        torch.manual_seed(seed)


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Give the generators of the CPU and of `device` their states back at the end of a `with` block."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


def _mix(*numbers: int) -> int:
    """One 63-bit seed from several numbers: similar numbers give unrelated seeds (the mixing step of SplitMix64).

    `numpy.random.SeedSequence` would do, but runs of earlier versions must resume to the same numbers.
    """
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & (2**64 - 1)
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        state ^= state >> 31
    return state >> 1
