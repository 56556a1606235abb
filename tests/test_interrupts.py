"""Signals that come where Python drops exceptions."""

import subprocess
import sys

import pytest

# The signal comes in a callback of the fork; nothing else would end the wait.
FORKED = """
import os, signal, threading

os.register_at_fork(**{place: lambda: os.kill(os.getpid(), signal.SIGTERM)})
from ssl_nlp import interrupts

with interrupts.handled():
    if (child := os.fork()) == 0:
        if place == "after_in_child":
            threading.Event().wait()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if place == "after_in_child":
        os._exit(os.waitstatus_to_exitcode(status))
    threading.Event().wait()
"""
DESTROYED = """
import os, signal, threading
from ssl_nlp import interrupts

class Fragile:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

with interrupts.handled():
    Fragile()
    threading.Event().wait()
"""


@pytest.mark.parametrize(
    "code",
    [*(f"place = {place!r}{FORKED}" for place in ("before", "after_in_parent", "after_in_child")), DESTROYED],
    ids=["before", "after_in_parent", "after_in_child", "destructor"],
)
def test_a_signal_is_not_lost_where_exceptions_are_dropped(code):
    body = "".join(f"    {line}\n" for line in code.splitlines())
    ended = f"import os\ntry:\n{body}except BaseException as stop:\n    os._exit(getattr(stop, 'status', 0))\n"
    done = subprocess.run([sys.executable, "-c", ended], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "")
