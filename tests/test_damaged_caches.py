"""Damage of any kind to any cache is noticed: the cache is rebuilt, with one line that says so, and never used as it is."""

import json
import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ssl_nlp.cache import DIGESTS, build_once, fingerprint
from ssl_nlp.commands.evaluate import _stored
from ssl_nlp.corpora import HubDataset, InstalledDocs, installed_docs
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import maker_of
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.cache import EmbeddingCache
from ssl_nlp.evaluation.result import Result
from ssl_nlp.evaluation.suite import Suite
from tests.corpus import ListCorpus, random_texts
from tests.evaluation.vectors import Hashed

pytestmark = pytest.mark.slow

CORPUS = ListCorpus(random_texts(30))


def tokenizer() -> str:
    return get_tokenizer(TokenizerSettings(vocab_size=300), CORPUS).serialize()


def tokens() -> list[Any]:
    found = []
    for unit in ("block", "sentence", "pair"):
        store = open_store(
            ListCorpus(["A dog. A cat.", "A bird. A tree. Rain."]), "train", _tokenizer(), maker_of(unit)
        )
        ids, words, _ = store.read(0, len(store))
        found += [ids.tolist(), words.tolist(), store.starts.tolist(), store.documents.tolist(), store.statistics]
    return found


def _tokenizer() -> Any:
    return get_tokenizer(TokenizerSettings(vocab_size=300), CORPUS)


def documentation() -> list[Any]:
    return [(document.text, document.label) for document in InstalledDocs(0.3, 0.3).read("train")]


def local_data_set() -> list[Any]:
    path = Path(os.environ["SSL_NLP_CACHE"]).with_name("records")
    return [document.text for document in HubDataset(str(path)).documents("train")]


def embeddings() -> list[Any]:
    texts = [f"text {i}" for i in range(20)]
    embedders = EmbeddingCache(Hashed(), "key").embedders(texts)
    return [embedder.embed(texts).tolist() for embedder in embedders.values()]


def baselines() -> Any:
    results = {"majority": {"topics.knn": Result("accuracy", {"accuracy": 0.25})}}
    return json.dumps(_stored("key", Suite("mine", {}, []), lambda: results), default=repr)


KINDS: dict[str, tuple[str, Callable[[], Any]]] = {
    "tokenizer": ("tokenizers", tokenizer),
    "tokens": ("tokens", tokens),
    "corpus": ("corpora", documentation),
    "local data set": ("datasets", local_data_set),
    "embeddings": ("embeddings/key", embeddings),
    "baselines": ("baselines", baselines),
}


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def make_a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], None]] = {
    "truncated": truncate,
    "a bit flipped": flip_a_bit,
    "lengthened": lengthen,
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "deleted": Path.unlink,
    "made a directory": make_a_directory,
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate cache, and a small environment whose documentation is read."""
    package = tmp_path / "site-packages" / "package.py"
    package.parent.mkdir()
    sentences = [f'def f{i}():\n    """The sentence {i} is long enough to count as prose."""\n' for i in range(9)]
    package.write_text("\n\n".join(sentences))
    (tmp_path / "records").mkdir()
    records = [json.dumps({"text": f"The sentence {i} is a record."}) for i in range(40)]
    (tmp_path / "records" / "train.jsonl").write_text("\n".join(records))
    monkeypatch.setattr(installed_docs, "source_roots", lambda: [package.parent])
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_cache_is_built_again_with_one_line(kind, damage, cache, capfd):
    folder, use = KINDS[kind]
    expected = use()
    [*found] = next((cache / folder).glob("*[0-9a-f]")).rglob("*")
    files = sorted(path for path in found if path.is_file() and path.suffix != ".lock")
    assert len(files) >= 2
    for path in files:
        capfd.readouterr()
        DAMAGES[damage](path)
        assert use() == expected
        [line] = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ssl-nlp: ")]
        assert "is damaged" in line and (path.name in line or path.name == DIGESTS)
        assert use() == expected
        assert "ssl-nlp" not in capfd.readouterr().err
        assert path.is_file()


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_without_files_or_that_is_a_file_is_built_again(kind, cache, capfd):
    folder, use = KINDS[kind]
    expected = use()
    directory = next((cache / folder).glob("*[0-9a-f]"))
    for leave in (Path.mkdir, Path.touch):
        shutil.rmtree(directory)
        leave(directory)
        capfd.readouterr()
        assert use() == expected
        lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ssl-nlp: ")]
        assert len(lines) == 1
        assert directory.is_dir()


def test_what_is_built_has_the_permissions_of_the_umask(cache):
    before = os.umask(0o027)
    try:
        for _, use in KINDS.values():
            use()
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in cache.rglob("*") if path.is_dir()}
    assert modes == {0o750}
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.rglob("*") if path.is_file()} <= {0o640, 0o750}


def build(directory: Path) -> None:
    (directory / "content").write_text("1")


def as_somebody_else(function: Callable[[], Any]) -> str:
    """The error that `function` raises when this process has no superuser rights on files; "" for none."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        message = ""
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            function()
        except (UserError, OSError) as error:
            message = f"{type(error).__name__}: {error}"
        os.write(write, message.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as file:
        return file.read()


@pytest.fixture
def shared(monkeypatch):
    """A cache that other users can reach; the folders that pytest makes are private."""
    path = Path(f"/tmp/{fingerprint(os.getpid(), 'shared')}")
    path.mkdir()
    path.chmod(0o755)
    monkeypatch.setenv("SSL_NLP_CACHE", str(path))
    build_once(path / "kind" / "key", build)
    yield path
    path.chmod(0o755)
    shutil.rmtree(path)


def test_others_may_read_a_cache_that_they_cannot_write(shared):
    for path in (shared, shared / "kind"):
        path.chmod(0o555)
    assert as_somebody_else(partial(build_once, shared / "kind" / "key", build)) == ""
    said = as_somebody_else(partial(build_once, shared / "kind" / "other", build))
    assert said.startswith("UserError: the cache") and "Permission denied" in said and "set SSL_NLP_CACHE" in said
    (shared / "kind").chmod(0o755)


@pytest.mark.parametrize("part", ["", "kind", "kind/key", "kind/key/content", "kind/key/digests.json"])
def test_a_cache_that_cannot_be_read_is_named(part, shared):
    (shared / part).chmod(0)
    said = as_somebody_else(partial(build_once, shared / "kind" / "key", build))
    assert said.startswith("UserError: the cache") and "Permission denied" in said and "set SSL_NLP_CACHE" in said
    (shared / part).chmod(0o755)


def test_a_cache_directory_that_cannot_be_made_is_named(shared, monkeypatch):
    shared.chmod(0o555)
    monkeypatch.setenv("SSL_NLP_CACHE", str(shared / "a" / "b"))
    said = as_somebody_else(partial(build_once, shared / "a" / "b" / "kind" / "key", build))
    assert said.startswith("UserError: the cache") and "Permission denied" in said and "set SSL_NLP_CACHE" in said


def test_a_cache_directory_that_is_a_file_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="the cache .*/file/tokenizers/.*Not a directory.*: set SSL_NLP_CACHE"):
        tokenizer()


def test_a_full_disk_is_named_and_leaves_nothing(cache):
    def fail(directory: Path) -> None:
        with open("/dev/full", "w") as file:
            file.write("x")

    with pytest.raises(UserError, match="No space left on device.*: free some space there, or set SSL_NLP_CACHE"):
        build_once(cache / "key", fail)
    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_errors_of_what_is_built_stay_what_they_are(cache):
    with pytest.raises(FileNotFoundError):
        build_once(cache / "key", lambda directory: Path("/nowhere/at/all").read_bytes())
