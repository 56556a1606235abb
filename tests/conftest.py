"""Fixtures for all tests: separate caches, no W&B account, one thread."""

import os
from pathlib import Path

import pytest

os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # one worker per core is faster than many threads


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Start every test run with empty caches, which its workers share; the user's are left alone."""
    folder = tmp_path_factory.getbasetemp()
    path = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache"
    os.environ["SSL_NLP_CACHE"] = str(path)
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the test that takes two minutes, so that no worker waits for another at the end."""
    items.sort(key=lambda item: item.name != "test_every_command_runs")
