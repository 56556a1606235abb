"""Commands that are killed and repeated end with the same bits as commands that were left alone.

`make test` runs a few of the moments, `make test-kill` all of them.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.end_to_end.cli import ROOT, run_process, write_texts
from tests.end_to_end.kill.chain import Chain, fit
from tests.end_to_end.kill.harness import Server, difference, left_behind
from tests.end_to_end.suites import write_suites

pytestmark = pytest.mark.slow

METHODS = ["masked_lm", "causal_lm", "simclr", "moco", "vae", "replaced_token", "multi_objective"]
EVERY = pytest.mark.kill
STEPS = 20  # validated every 10, saved every 4, logged every 3
# Hooks of Lightning, at chosen steps, before and after what happens there.
HOOKS = [
    "on_fit_start@0",
    "on_train_start@0",
    "on_train_batch_end@1",  # the run begins to exist
    "on_train_batch_end@4",
    "on_train_batch_start@7",
    "on_train_batch_end@10",
    "on_validation_start@10",
    "on_validation_batch_end@10",
    "on_validation_epoch_end@10",
    "on_validation_end@10",
    "on_train_batch_end@13",
    "on_before_optimizer_step@15",
    "on_train_batch_end@20",
    "on_validation_start@20",
    "on_validation_batch_end@20",
    "on_validation_epoch_end@20",
    "on_validation_end@20",
    "on_train_epoch_end@20",
    "on_train_end@20",
    "on_fit_end@20",
    "teardown@20",
]
FILES = ["config.yaml", "run.json", "metrics.csv", "samples.jsonl", "last.ckpt", "previous.ckpt", "best.ckpt"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the texts."""
    folder = tmp_path_factory.mktemp("kill")
    write_texts(folder)
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Server]:
    """The working directory of commands."""
    server = Server(place / "cache")
    yield server
    server.close()


@pytest.fixture(scope="module")
def chain_of(server: Server, place: Path) -> Any:
    """The chain of a method, made once."""
    chains: dict[tuple[str, ...], Chain] = {}

    def find(*arguments: str) -> Chain:
        if arguments not in chains:
            chains[arguments] = Chain(server, place, *arguments)
        return chains[arguments]

    return find


def moments() -> list[Any]:
    """Pair each with a method, all methods in turn. A few belong to `make test`."""
    named = [(event, 1) for hook in HOOKS for event in (hook, f"{hook} done")]
    named += [(f"{what}:{file}", n) for file in FILES for what in ("write", "replace", "replaced") for n in (1, 3)]
    chosen = {
        ("on_validation_batch_end@20", 1),
        ("replace:last.ckpt", 3),
        ("write:best.ckpt", 1),
        ("write:run.json", 1),
    }
    return [
        pytest.param(METHODS[i % len(METHODS)], *moment, marks=() if moment in chosen else EVERY)
        for i, moment in enumerate(named)
    ]


@pytest.mark.parametrize(("method", "event", "occurrence"), moments())
def test_a_training_killed_at_a_moment_ends_as_if_it_had_not_been(chain_of, method, event, occurrence):
    chain = chain_of(method)
    there = chain.events.count(event)
    if event.startswith("write:previous"):
        assert not there  # it was last.ckpt when it was written
    elif not there:
        assert event.partition(":")[2] in ("samples.jsonl", "metrics.csv"), event  # some methods draw no samples
    assert not chain.ends_like_one_left_alone({"kill": event, "occurrence": min(occurrence, max(there, 1))})


@pytest.mark.parametrize("number", [pytest.param(n, marks=() if n == 0 else EVERY) for n in range(40)])
def test_a_training_killed_at_random_ends_as_if_it_had_not_been(chain_of, number):
    draw = random.Random(number)
    chain = chain_of(METHODS[number % len(METHODS)])
    kills: list[dict[str, Any]] = [{"seconds": draw.uniform(0.2, 2.0)} for _ in range(3)]
    if number % 2 == 0:  # by what happens, not by the clock
        places = sorted(draw.randrange(len(chain.events)) for _ in range(2))
        names = [chain.events[place] for place in places]
        counts = [chain.events[: place + 1].count(name) for place, name in zip(places, names, strict=True)]
        kills = [{"kill": name, "occurrence": count} for name, count in zip(names, counts, strict=True)]
    assert not chain.ends_like_one_left_alone(*kills)


BUILDING = ["replace:tokenizers", "replaced:tokenizers", "replace:tokens", "replaced:tokens"]


@pytest.mark.parametrize("event", [pytest.param(event, marks=EVERY) for event in BUILDING])
@pytest.mark.parametrize("method", [pytest.param(method, marks=EVERY) for method in METHODS[:2]])
def test_a_training_killed_while_it_builds_caches_ends_as_if_it_had_not_been(chain_of, tmp_path, method, event):
    assert not chain_of(method).ends_like_one_left_alone({"kill": event}, cache=tmp_path)


@pytest.mark.parametrize("seconds", [pytest.param(n / 4, marks=EVERY) for n in range(1, 9)])
def test_caches_that_were_being_built_are_built_again(chain_of, tmp_path, seconds):
    assert not chain_of("masked_lm").ends_like_one_left_alone({"seconds": seconds}, cache=tmp_path)


@pytest.mark.kill
def test_a_training_killed_in_the_middle_of_accumulated_gradients_ends_as_if_it_had_not_been(chain_of):
    more = ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=7"]
    chain = chain_of("masked_lm", *more)
    for event in (
        "on_validation_start@3",
        "on_validation_end@3 done",
        "on_train_batch_start@9",
        "on_validation_end@20",
    ):
        assert event in chain.events
        assert not chain.ends_like_one_left_alone({"kill": event})


@pytest.mark.parametrize("limit", ["7", "0.2"])
def test_a_resumed_run_counts_its_epochs_as_they_were_limited(chain_of, limit):
    """Epochs have few batches: the run is killed in the first, the second and a later one, and resumes at an end."""
    chain = chain_of("causal_lm", f"--trainer.limit_train_batches={limit}", "--trainer.max_epochs=9")
    kills = [{"kill": f"on_train_batch_end@{step} done"} for step in (6, 9, 15)]
    assert not chain.ends_like_one_left_alone(*kills)


@pytest.mark.kill
def test_a_run_resumed_at_the_end_of_an_epoch_has_the_best_checkpoint_of_one_left_alone(chain_of):
    """The same when a validation comes in the middle of accumulated gradients."""
    more = ["--trainer.accumulate_grad_batches=3", "--trainer.val_check_interval=7", "--trainer.limit_train_batches=10"]
    assert not chain_of("vae", *more).ends_like_one_left_alone({"kill": "on_train_batch_start@5"})


def test_a_resumed_run_in_double_precision_keeps_all_digits_of_its_weights(chain_of):
    chain = chain_of("causal_lm", "--trainer.precision=64-true")
    assert not chain.ends_like_one_left_alone({"kill": "on_train_batch_start@7"})


# -------------------------------------------------------------------------------------------- evaluate and compare


def evaluated(server: Server, place: Path, command: list[str], results: list[str], marker: str) -> None:
    """Kill a command on trained runs at each of its file events, and compare what it leaves."""
    folder = place / marker
    folder.mkdir()
    write_suites(folder)
    for method in ("masked_lm", "causal_lm"):
        arguments = [part for part in fit(method, place) if part != "--run=it"]
        assert server.run([*arguments, f"--run={method}"], folder).status == 0
    trained = place / f"{marker}-trained"
    shutil.copytree(folder, trained)
    fresh = {"SSL_NLP_CACHE": str(folder / "cache")}
    events = server.events(command, folder, fresh)
    alone = {name: (folder / name).read_bytes() for name in results}
    counts = {name: events.count(name) for name in events if name.partition(":")[0] in ("write", "replace", "replaced")}
    assert len(counts) >= 6
    for event, occurrence in [(name, n) for name, count in counts.items() for n in sorted({1, count})]:
        shutil.rmtree(folder)
        shutil.copytree(trained, folder)
        killed = server.run(command, folder, fresh, kill=event, occurrence=occurrence)
        assert killed.status == -signal.SIGKILL, (event, occurrence, killed.stderr)
        again = server.run(command, folder, fresh)
        assert again.status == 0, (event, again.stderr)
        assert alone == {name: (folder / name).read_bytes() for name in results}, (event, occurrence)
        assert not list(folder.glob("runs/*/.*.part")), event


@pytest.mark.kill
@pytest.mark.timeout(1800)
def test_an_evaluation_killed_at_any_file_ends_as_if_it_had_not_been(server, place):
    command = ["evaluate", "masked_lm", "causal_lm", "--config", "mine.yaml"]
    results = [
        f"runs/{m}/{file}" for m in ("masked_lm", "causal_lm") for file in ("evaluation.json", "evaluation_items.npz")
    ]
    evaluated(server, place, command, results, "evaluate")


@pytest.mark.kill
@pytest.mark.timeout(1800)
def test_a_comparison_killed_at_any_file_ends_as_if_it_had_not_been(server, place):
    command = ["compare", "masked_lm", "causal_lm", "--config", "mine.yaml", "--output", "table"]
    evaluated(server, place, command, ["table/comparison.csv", "table/report.html"], "compare")


@pytest.mark.kill
@pytest.mark.parametrize(
    "event", ["on_train_batch_end@7", "on_validation_batch_end@20", "write:best.ckpt", "write:run.json"]
)
def test_seeds_of_a_comparison_that_was_killed_go_on(server, tmp_path, event):
    write_texts(tmp_path)
    write_suites(tmp_path)
    arguments = fit("masked_lm", tmp_path)
    command = ["compare", "--seeds", "2", arguments[2], "--config", "mine.yaml", "--output", "table", "--"]
    command += [part for part in arguments[3:] if part != "--run=it"]
    assert server.run(command, tmp_path, kill=event).status == -signal.SIGKILL
    assert server.run(command, tmp_path).status == 0
    killed = {folder.name: trained(folder) for folder in tmp_path.glob("runs/*-seed?")}
    table = (tmp_path / "table" / "comparison.csv").read_bytes()
    shutil.rmtree(tmp_path / "runs")
    shutil.rmtree(tmp_path / "table")
    assert server.run(command, tmp_path).status == 0
    assert len(killed) == 2
    assert not difference(killed, {folder.name: trained(folder) for folder in tmp_path.glob("runs/*-seed?")})
    assert [line.split(b",")[:4] for line in table.splitlines()] == [
        line.split(b",")[:4] for line in (tmp_path / "table" / "comparison.csv").read_bytes().splitlines()
    ]


def trained(run: Path) -> dict[str, Any]:
    """The files of training; an evaluation adds how fast it was."""
    return {name: content for name, content in left_behind(run).items() if "evaluation" not in name}


# ------------------------------------------------------------------------------------------------- signals, full disks


@pytest.mark.parametrize(
    ("event", "number", "says"),
    [
        (
            "on_train_batch_start@7",
            signal.SIGTERM,
            "stopped by SIGTERM: {}/last.ckpt was saved at step 8; the same command",
        ),
        (
            "on_train_batch_start@7",
            signal.SIGINT,
            "stopped by Ctrl-C: {}/last.ckpt was saved at step 8; the same command",
        ),
        (
            "on_validation_batch_start@20",
            signal.SIGTERM,
            "stopped by SIGTERM: {}/last.ckpt was saved at step 20; the same",
        ),
        (
            "on_before_backward@0",
            signal.SIGUSR1,
            "stopped by SIGUSR1: {}/last.ckpt was saved at step 1; the same command",
        ),
        ("on_fit_start@0", signal.SIGTERM, "stopped by SIGTERM"),
    ],
)
def test_a_signal_ends_a_training_with_a_line_and_its_status_and_nothing_is_lost(chain_of, event, number, says):
    chain = chain_of("masked_lm")
    shutil.rmtree(chain.folder / "runs")
    stopped = chain.server.run(chain.command, chain.folder, kill=event, signal_number=number)
    assert stopped.status == 128 + number
    [line] = [line for line in stopped.stderr.splitlines() if line]
    assert line.startswith("ssl-nlp: " + says.format(chain.folder / "runs" / "it" / "checkpoints"))
    assert "finished" not in stopped.stdout
    ended = chain.server.run(chain.command, chain.folder)
    assert ended.status == 0, ended.stderr
    assert not ended.stderr  # and no warning that the data could not go on
    assert same_at_the_end(chain)


def same_at_the_end(chain: Chain) -> bool:
    """Whether the run ended like one left alone; the checkpoint before the last may be that of the signal."""
    left = left_behind(chain.folder / "runs" / "it")
    before = "checkpoints/previous.ckpt"
    return not difference({**chain.alone, before: None}, {**left, before: None})


def test_slurm_is_asked_to_start_a_job_again_that_it_announces_to_end(chain_of, tmp_path):
    chain = chain_of("masked_lm")
    shutil.rmtree(chain.folder / "runs")
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    slurm = {"SLURM_JOB_ID": "12", "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
    slurm |= {"SLURM_JOB_NAME": "training", "SLURM_NODELIST": "localhost", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    stopped = chain.server.run(
        chain.command, chain.folder, slurm, kill="on_train_batch_start@7", signal_number=signal.SIGUSR1
    )
    assert stopped.status == 128 + signal.SIGUSR1, stopped.stderr
    assert "was saved at step 8; SLURM starts the job again" in stopped.stderr
    assert (tmp_path / "asked").read_text() == "requeue 12\n"
    assert chain.server.run(chain.command, chain.folder, slurm).status == 0
    assert same_at_the_end(chain)


@pytest.mark.parametrize(
    ("event", "status"), [("replace:tokens", 143), ("write:evaluation.json", 143), ("write:comparison.csv", 143)]
)
def test_commands_without_a_training_stop_at_once(server, place, tmp_path, event, status):
    write_suites(tmp_path)
    assert server.run(fit("masked_lm", place), tmp_path).status == 0
    fresh = {"SSL_NLP_CACHE": str(tmp_path / "cache")}
    command = ["compare", "it", "--config", "mine.yaml", "--output", "table"]
    if event == "replace:tokens":
        shutil.rmtree(tmp_path / "runs")
        command = fit("masked_lm", place)
    stopped = server.run(command, tmp_path, fresh, kill=event, signal_number=signal.SIGTERM)
    assert stopped.status == status, stopped.stderr
    assert stopped.stderr.splitlines()[-1] == "ssl-nlp: stopped by SIGTERM: repeat the command to finish it"
    assert not list(tmp_path.rglob("*.part"))
    assert server.run(command, tmp_path, fresh).status == 0


TOKENIZING = """
import os
import threading

from ssl_nlp.data import store


def encode(*arguments):
    print("tokenizing", os.getpid(), flush=True)
    threading.Event().wait()


os.cpu_count = lambda: 2
store.encode = encode
"""


@pytest.mark.parametrize(
    ("number", "send", "name"), [(signal.SIGTERM, os.kill, "SIGTERM"), (signal.SIGINT, os.killpg, "Ctrl-C")]
)
def test_a_signal_ends_all_processes_that_tokenize_with_one_line(tmp_path, number, send, name):
    """A scheduler may send its signal to the command alone, a terminal sends Ctrl-C to its workers, too."""
    (tmp_path / "blocks.py").write_text(TOKENIZING)
    (tmp_path / "texts.txt").write_text("".join(f"Text {text}.\n" for text in range(24_000)))
    command = fit("masked_lm", tmp_path)
    with subprocess.Popen(
        [sys.executable, "-m", "ssl_nlp", *command, "--import", "blocks.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SSL_NLP_CACHE": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell may ignore it
    ) as process:
        assert process.stdout is not None
        marks = (line for line in process.stdout if line.startswith("tokenizing"))
        at_work = {line.split()[1] for line in islice(marks, 2)}
        assert len(at_work) == 2 and str(process.pid) not in at_work
        send(process.pid, number)
        _, errors = process.communicate()
    assert errors == f"ssl-nlp: stopped by {name}: repeat the command to finish it\n"
    assert process.returncode == 128 + number
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    again = run_process(*command, cwd=tmp_path, SSL_NLP_CACHE=str(tmp_path / "cache"))
    assert again.returncode == 0, again.stderr
    assert not list((tmp_path / "cache").glob("*/.*"))


@pytest.mark.parametrize("file", ["last.ckpt", "best.ckpt", "samples.jsonl", "run.json", "config.yaml"])
def test_a_full_disk_ends_a_training_with_a_line_and_destroys_nothing(chain_of, file):
    chain = chain_of("masked_lm")
    shutil.rmtree(chain.folder / "runs")
    occurrence = 2 if file == "last.ckpt" else 1
    full = chain.server.run(chain.command, chain.folder, kill=f"write:{file}", occurrence=occurrence, full=True)
    assert full.status == 2
    [line] = [line for line in full.stderr.splitlines() if line]
    assert line.startswith("ssl-nlp: cannot write ")
    assert f"{file} (No space left on device)" in line
    if file == "last.ckpt":
        saved = torch.load(chain.folder / "runs" / "it" / "checkpoints" / "last.ckpt", weights_only=True)
        assert saved["global_step"] == 4
    assert not list((chain.folder / "runs").rglob("*.part"))
    assert chain.server.run(chain.command, chain.folder).status == 0
    assert not difference(chain.alone, left_behind(chain.folder / "runs" / "it"))
