"""Fixtures for all tests: caches of their own, no W&B account, few threads."""

import os
from pathlib import Path

import pytest

os.environ["WANDB_MODE"] = "offline"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "2")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every test run starts with empty caches and leaves the user's alone."""
    path = tmp_path_factory.mktemp("cache")
    os.environ["SSL_NLP_CACHE"] = str(path)
    return path


@pytest.fixture
def shared_data() -> Path:
    """Real text beside the checkout; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real text at {SHARED_DATA}")
    return SHARED_DATA
