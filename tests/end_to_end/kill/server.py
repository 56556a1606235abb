"""Runs commands in forked children of a process that has imported everything, and kills them at chosen moments.

Importing the libraries takes longer than a tiny training, and this way it is done once. A moment is an event and the number
of its occurrence. Events are the hooks of Lightning with the step they come at, `on_validation_end@10`, and what happens to
files: `write:last.ckpt` when half of it is written, `replace:last.ckpt` and `replaced:last.ckpt` before and after it takes
its name.
"""

import errno
import json
import os
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

events: Counter[str] = Counter()


def main() -> None:
    """Read one request per line, and answer each with a line."""
    import datasets  # noqa: F401
    import sklearn.linear_model  # noqa: F401
    import torch._dynamo  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(serve(**json.loads(line))), flush=True)


def serve(
    arguments: list[str],
    cwd: str,
    environment: dict[str, str],
    kill: str | None = None,
    occurrence: int = 1,
    seconds: float | None = None,
    signal_number: int = signal.SIGKILL,
    full: bool = False,
    trace: bool = False,
) -> dict[str, Any]:
    """Run one command. Returns its exit status (negative: the signal that ended it), its output and its duration."""
    start = time.monotonic()
    output, errors = Path(cwd, ".stdout"), Path(cwd, ".stderr")
    child = os.fork()
    if not child:
        _chosen.update(kill=kill, occurrence=occurrence, signal=signal_number, full=full)
        _chosen["trace"] = Path(cwd, ".trace") if trace else None
        _be_child(arguments, cwd, environment, output, errors)
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        passed = time.monotonic() - start
        if passed > 280:
            os.killpg(child, signal.SIGKILL)
        elif seconds is not None and passed >= seconds:
            os.kill(child, signal_number)
            seconds = None
        time.sleep(0.002)
    return {
        "status": os.waitstatus_to_exitcode(status),
        "stdout": output.read_text(errors="replace"),
        "stderr": errors.read_text(errors="replace"),
        "seconds": time.monotonic() - start,
    }


def _be_child(arguments: list[str], cwd: str, environment: dict[str, str], output: Path, errors: Path) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell ignores for tests in the background
    os.chdir(cwd)
    os.environ.update(environment)
    for file, descriptor in ((output, 1), (errors, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(opened, descriptor)
    sys.stdin = open(os.devnull)  # noqa: SIM115  # for as long as the child lives
    status = 1
    try:
        _watch()
        from tests.end_to_end.cli import run

        status = run(*arguments)
        happens("exit", None)
    except BaseException:  # noqa: BLE001  # as the interpreter does at the top
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


_chosen: dict[str, Any] = {}


def happens(event: str, half: int | None) -> None:
    """Record an event; at the chosen one, kill this process or pretend that the disk is full.

    Args:
        event: its name.
        half: a file that is cut to its half before, as if it were being written.
    """
    events[event] += 1
    if _chosen["trace"]:
        with _chosen["trace"].open("a") as file:
            file.write(event + "\n")
    if event == _chosen["kill"] and events[event] == _chosen["occurrence"]:
        if half is not None and _chosen["signal"] == signal.SIGKILL:
            os.ftruncate(half, os.fstat(half).st_size // 2)
        if _chosen["full"]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if _chosen["signal"] == signal.SIGKILL:
            os.killpg(0, signal.SIGKILL)  # and whatever it has started
        os.kill(os.getpid(), _chosen["signal"])


def _watch() -> None:
    from lightning.pytorch.trainer import call

    import ssl_nlp.commands.train_runs

    hooks, replace, rename, fsync = call._call_callback_hooks, os.replace, os.rename, os.fsync

    def call_hooks(trainer: Any, hook_name: str, *arguments: Any, **keywords: Any) -> None:
        happens(f"{hook_name}@{trainer.global_step}", None)
        hooks(trainer, hook_name, *arguments, **keywords)
        happens(f"{hook_name}@{trainer.global_step} done", None)

    def moving(function: Any) -> Any:
        def move(source: Any, target: Any, **keywords: Any) -> None:
            name = _name(target)
            happens(f"replace:{name}", None)
            function(source, target, **keywords)
            happens(f"replaced:{name}", None)

        return move

    def sync(descriptor: int) -> None:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        if not os.path.isdir(path):
            happens(f"write:{_name(path)}", descriptor)
        fsync(descriptor)

    call._call_callback_hooks = call_hooks
    os.replace, os.rename, os.fsync = moving(replace), moving(rename), sync
    ssl_nlp.commands.train_runs.run_fit = _fit_in_a_child


def _fit_in_a_child(arguments: Sequence[str]) -> int:
    """The process that `compare` starts, without importing everything again."""
    from tests.end_to_end.cli import run

    child = os.fork()
    if not child:
        os._exit(run("fit", *arguments))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _name(path: Any) -> str:
    """The name of a file, without the parts that differ from run to run."""
    path = Path(path)
    if re.fullmatch(r"[0-9a-f]{16}", path.name):  # a cache
        return path.parent.name
    return re.sub(r"^\.(.*?)(\.[0-9a-z_]{8})?\.part$", r"\1", path.name)


if __name__ == "__main__":
    main()
