"""Signals that ask a process to stop: Ctrl-C, those of schedulers, a closed terminal.

A signal ends the command with an exception and, as in a shell, exit status 128 + its number. During training it waits for
the end of the step, so that the step can be saved; a second signal does not wait. Forked processes leave it
to the command to end them.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

# SLURM sends SIGUSR1 or SIGUSR2 before the time limit if asked to, and SIGTERM at the limit or on preemption.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
AGAIN = 0.05  # seconds until a signal is sent again that came where Python drops exceptions


class Interrupted(BaseException):
    """A signal asked the process to stop.

    Attributes:
        signal: the signal.
        outcome: what was saved, and how to continue.
    """

    def __init__(self, number: int, outcome: str = "repeat the command to finish it") -> None:
        self.signal, self.outcome = signal.Signals(number), outcome
        name = "Ctrl-C" if self.signal is signal.SIGINT else self.signal.name
        super().__init__(f"stopped by {name}: {outcome}")

    @property
    def status(self) -> int:
        """The exit status of the command."""
        return 128 + self.signal.value


class _State:
    deferring = False
    forking: int | None = None  # the process whose main thread is in the callbacks of a fork
    received: int | None = None


_state = _State()


def handle(number: int, frame: FrameType | None = None) -> None:
    """The handler of all these signals.

    Raises:
        Interrupted: at once, unless signals are deferred. Not during a fork, whose callbacks hold locks.
    """
    if _state.forking is not None or (frame is not None and frame.f_code in _FORKING):
        return _in_fork(number)
    if _state.deferring and _state.received is None:
        _state.received = number
        return
    raise Interrupted(number)


def received() -> int | None:
    """The signal that arrived while signals were deferred."""
    return _state.received


def defer() -> None:
    """Keep the next signal until `received` asks for it."""
    _state.deferring, _state.received = True, None
    if threading.current_thread() is threading.main_thread():
        for number in _numbers():
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handle)  # Lightning's handler would end the training with status 0


def stop_deferring() -> None:
    """Let signals end the command at once again."""
    _state.deferring = False


@contextmanager
def handled() -> Iterator[None]:
    """Handle these signals in the block; those that the parent process ignores, as under `nohup`, stay ignored.

    Raises:
        Interrupted: a signal has ended the block, even if a library has failed while it cleaned up, as the pool of
            `datasets` does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, hook = {number: signal.getsignal(number) for number in _numbers()}, sys.unraisablehook
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    sys.unraisablehook = partial(_retried, hook)
    try:
        yield
    except Exception as error:
        if (interrupted := _interruption_behind(error)) is None:
            raise
        raise interrupted from None
    finally:
        stop_deferring()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def requeue() -> bool:
    """Ask SLURM to start this job again, if the process is one of its jobs; whether SLURM agreed."""
    job = os.environ.get("SLURM_JOB_ID")
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if job is None:
        return False
    try:
        return subprocess.run(["scontrol", "requeue", job], check=False, stdout=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def _interruption_behind(error: BaseException) -> Interrupted | None:
    """The interruption that was being handled when an error was raised, if there was one."""
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, Interrupted):
        behind = behind.__context__
    return behind


def _in_fork(number: int) -> None:
    """Handle a signal in the callbacks of a fork: send it again later or, in the new process, exit on SIGTERM."""
    if _state.forking in (None, os.getpid()):
        _send_again(number)
    elif number == signal.SIGTERM:
        os._exit(128 + number)


def _send_again(number: int) -> None:
    timer = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
    timer.daemon = True  # or a forked process would wait for it at its end
    timer.start()


def _retried(hook: Callable[["sys.UnraisableHookArgs"], object], unraisable: "sys.UnraisableHookArgs") -> None:
    """Send a signal again if Python has dropped its exception, as it does in destructors.

    Args:
        hook: what is called for other exceptions.
        unraisable: the exception.
    """
    if isinstance(unraisable.exc_value, Interrupted):
        _send_again(unraisable.exc_value.signal)
    elif isinstance(unraisable.exc_value, SystemExit) and signal.getsignal(signal.SIGTERM) is _exit:
        os._exit(128 + signal.SIGTERM)
    else:
        hook(unraisable)


def _before_fork() -> None:
    if threading.current_thread() is threading.main_thread():  # only there are signals handled
        _state.forking = os.getpid()


def _after_fork() -> None:
    if threading.current_thread() is threading.main_thread():
        _state.forking = None


def _leave_to_parent() -> None:
    """In a forked process: ignore the signals that a terminal sends to all, and exit quietly when the parent asks."""
    for number in _numbers():
        if signal.getsignal(number) is handle:
            signal.signal(number, _exit if number == signal.SIGTERM else signal.SIG_IGN)
    _state.forking = None


def _exit(number: int, frame: FrameType | None) -> None:
    """Leave a forked process by an exception: it releases the locks that a pool of processes would wait for for ever."""
    raise SystemExit(128 + number)


_FORKING = (_before_fork.__code__, _after_fork.__code__)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_leave_to_parent)


def _numbers() -> list[int]:
    return [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
