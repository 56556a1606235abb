"""A cache is complete or absent, whoever builds it and however that ends."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from ssl_nlp.cache import build_once, cache_dir, fingerprint


def build(directory: Path) -> None:
    """Record every build beside the directory, and write two files into it."""
    with (directory.parent / "builds").open("a") as file:
        file.write("x")
    (directory / "first").write_text("1")
    (directory / "second").write_text("2")


def die_half_way(directory: Path) -> None:
    (directory / "first").write_text("1")
    os.kill(os.getpid(), signal.SIGKILL)


def test_several_processes_at_once_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=build_once, args=(tmp_path / "key", build)) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 6
    assert (tmp_path / "builds").read_text() == "x"
    assert (tmp_path / "key" / "second").read_text() == "2"


def test_what_a_killed_process_left_is_no_cache(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=build_once, args=(tmp_path / "key", die_half_way))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "key").exists()
    build_once(tmp_path / "key", build)
    assert sorted(path.name for path in (tmp_path / "key").iterdir()) == ["digests.json", "first", "second"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".key.")]  # the remains are gone


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def fail(directory: Path) -> None:
        (directory / "first").write_text("1")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        build_once(tmp_path / "key", fail)
    assert not (tmp_path / "key").exists()
    build_once(tmp_path / "key", build)
    build_once(tmp_path / "key", fail)  # it is there: nothing is built


def test_the_directory_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("SSL_NLP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "ssl_nlp"


def test_a_key_depends_on_everything_but_the_order_of_keys():
    assert fingerprint("a", {"x": 1, "y": 2}) == fingerprint("a", {"y": 2, "x": 1})
    assert len({fingerprint("a", 1), fingerprint("a", 2), fingerprint("a", "1"), fingerprint(["a"], 1)}) == 4
