"""A training that is killed and repeated, beside one that is left alone."""

import shutil
import signal
from pathlib import Path
from typing import Any

from tests.end_to_end.cli import CONFIGS, small, tiny_encoder
from tests.end_to_end.kill.harness import Server, difference, left_behind


def fit(method: str, place: Path, *more: str) -> list[str]:
    settings = ["--trainer.precision=32-true", "--checkpoint_every=4", "--trainer.log_every_n_steps=3", "--run=it"]
    config = ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(str(place / "texts.txt")), *tiny_encoder()]
    return [*config, *settings, "--model.encoder.dropout=0.1", *more]


class Chain:
    """The command of one method, and what it leaves when it is not killed."""

    def __init__(self, server: Server, place: Path, method: str, *more: str) -> None:
        self.server, self.folder = server, place / "-".join([method, *more]).replace("=", "")
        self.command = fit(method, place, *more)
        self.folder.mkdir()
        self.events = server.events(self.command, self.folder)
        self.alone = left_behind(self.folder / "runs" / "it")
        self.seconds = 0.0

    def ends_like_one_left_alone(self, *kills: dict[str, Any], cache: Path | None = None) -> list[str]:
        """Start afresh, kill the command at each moment in turn, let it end, and return what then differs."""
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        environment = {} if cache is None else {"SSL_NLP_CACHE": str(cache)}
        for kill in kills:
            ended = self.server.run(self.command, self.folder, environment, **kill)
            if ended.status in (0, 2):
                break  # it was quicker than the kill, or had ended before
            assert ended.status == -signal.SIGKILL, ended.stderr
        ended = self.server.run(self.command, self.folder, environment)
        assert ended.status == 0 or "is finished" in ended.stderr, ended.stderr
        self.seconds = ended.seconds
        return difference(self.alone, left_behind(self.folder / "runs" / "it"))
