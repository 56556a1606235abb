"""Effects on the process of importing the package first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHOW = "import ssl_nlp, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"


@pytest.mark.parametrize(("given", "kept"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_that_wait_for_each_other_sleep_unless_the_user_says_otherwise(given, kept):
    """The policy must be set before torch is imported, because its OpenMP runtime reads it only then."""
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    environment |= {} if given is None else {"OMP_WAIT_POLICY": given}
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-c", SHOW]
    shown = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.split() == [kept, "False"]
