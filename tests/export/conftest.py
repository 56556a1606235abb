"""The old runs, exported in every format, and what a process without ssl_nlp computes with the folders."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.end_to_end.cli import run

OLD = Path(__file__).parents[1] / "runs_0_1"
NAMES = sorted(path.parent.name for path in OLD.glob("*/evaluation.json"))
FORMATS = ("transformers", "sentence-transformers")
GRAPHS = ("causal_lm", "vae")  # of which there is a graph as well: each takes seconds
TEXTS = [
    "the dog sees a cat",
    "A small bird hears the red house.",
    "一只小狗看见猫。",
    "",
    "  two  spaces, a tab\tand a line\nend ",
    "Don't: 3.5 km, naïve café <s> [SEP] 😀",
    "the dog sees a cat and " * 30,
]


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs in `runs/`, and `exports/RUN-FORMAT` of each."""
    folder, before = tmp_path_factory.mktemp("exports"), Path.cwd()
    for name in NAMES:
        shutil.copytree(OLD / name, folder / "runs" / name)
    os.chdir(folder)
    try:
        for name in NAMES:
            for format in (*FORMATS, "onnx") if name in GRAPHS else FORMATS:
                assert run("export", name, "--format", format) == 0
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="session")
def loaded(exports: Path) -> dict[str, Any]:
    """By folder, what it computes for TEXTS in a process that cannot import ssl_nlp."""
    script, output = Path(__file__).with_name("load_folders.py"), exports / "loaded.pt"
    folders = sorted(str(path) for path in (exports / "exports").iterdir())
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-I", str(script), str(output), json.dumps(TEXTS), *folders]
    subprocess.run(command, check=True, cwd=exports, env=environment, timeout=300)
    found: dict[str, Any] = torch.load(output)
    return found
