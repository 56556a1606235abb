import re
import shutil
import sysconfig
from pathlib import Path

import pytest
from pyarrow import parquet

from ssl_nlp.corpora import SPLITS, Document, InstalledDocs, installed_docs
from ssl_nlp.corpora.installed_docs import extract, source_files, source_roots
from ssl_nlp.errors import UserError

SENTENCE = "The {} sentence is long enough to count as prose."


def write(path: Path, *names: str) -> None:
    """A module with one documented function for each name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f'def {name}():\n    """{SENTENCE.format(name)}"""\n\n\n' for name in names))


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small environment of its own instead of the one that runs the tests, and a cache of its own."""
    root = tmp_path / "site-packages"
    root.mkdir()
    monkeypatch.setattr(installed_docs, "source_roots", lambda: [root])
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path / "cache"))
    return root


def everything() -> list[Document]:
    return [document for split in SPLITS for document in InstalledDocs(0.3, 0.3).documents(split)]


def test_documents_with_their_package(installed: Path) -> None:
    write(installed / "package" / "part" / "module.py", "first", "second")
    write(installed / "package" / "__init__.py", "third", "first")
    write(installed / "single.py", "fourth")
    write(installed / "xyz" / "a.py", "fifth", "sixth", "first", "seventh", "eighth")
    expected = {(SENTENCE.format(name), "package") for name in ("first", "second", "third")}
    expected |= {(SENTENCE.format("fourth"), "single")}
    expected |= {(SENTENCE.format(name), "xyz") for name in ("fifth", "sixth", "seventh", "eighth")}
    found = [(document.text, document.label) for document in everything()]
    assert len(found) == len(expected)
    assert set(found) == expected


def test_what_is_left_out(installed: Path) -> None:
    for name in (
        "package/tests/a.py",
        "package/_vendor/other/a.py",
        "package/test_a.py",
        "idlelib/a.py",
        "lib2to3/a.py",
        "ssl_nlp/a.py",
        "ssl_nlp.py",
        "__editable___ssl_nlp_finder.py",
        "package/data.txt",
    ):
        write(installed / name, "never")
    write(installed / "package" / "a.py", "kept")
    assert [(str(path.relative_to(installed)), top) for path, top in source_files(installed)] == [
        ("package/a.py", "package")
    ]


def test_bad_files_and_their_warnings_stay_unseen(
    installed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(installed / "good.py", "good")
    (installed / "python2.py").write_text('"""A sentence that is long enough."""\nprint "old"\n')
    (installed / "latin1.py").write_bytes('"""A sentence that is long enough: ä."""\n'.encode("latin-1"))
    (installed / "warns.py").write_text(f'"""{SENTENCE.format("warning")}"""\nassert (1, "always true")\nx = "\\d"\n')
    extract(tmp_path)
    installed_texts = set(read_texts(tmp_path))
    assert installed_texts == {SENTENCE.format("good"), SENTENCE.format("warning")}
    assert capfd.readouterr() == ("", "")


def read_texts(directory: Path) -> list[str]:
    texts: list[str] = parquet.read_table(directory / "documents.parquet")["text"].to_pylist()
    return texts


def test_modules_are_not_imported(installed: Path, tmp_path: Path) -> None:
    (installed / "a.py").write_text(
        f'"""{SENTENCE.format("first")}"""\nfrom pathlib import Path\nPath({str(tmp_path / "trace")!r}).touch()\n'
    )
    extract(tmp_path)
    assert len(read_texts(tmp_path)) == 1
    assert not (tmp_path / "trace").exists()


def test_real_packages_give_the_same_prose_every_time(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("logging", "asyncio"):
        shutil.copytree(Path(sysconfig.get_paths()["stdlib"], package), installed / package)
    monkeypatch.setattr(installed_docs, "TASK_BYTES", 100_000)  # several tasks, which end in any order
    for name, cores in (("one", 1), ("two", 3)):
        monkeypatch.setattr(installed_docs, "_cores", lambda cores=cores: cores)
        (tmp_path / name).mkdir()
        extract(tmp_path / name)
    one, two = ((tmp_path / name / "documents.parquet").read_bytes() for name in ("one", "two"))
    assert one == two
    texts = read_texts(tmp_path / "one")
    assert len(texts) > 200
    assert len(set(texts)) == len(texts)
    assert not [text for text in texts if re.search(r">>>|:class:|``|^-{3,}$|\n\n", text)]


def test_extracted_once_and_again_after_an_installation(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(directory: Path) -> None:
        calls.append(directory)
        extract(directory)

    monkeypatch.setattr(installed_docs, "extract", counted)
    write(installed / "package.py", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
    before = InstalledDocs().fingerprint()
    assert len(everything()) == 8
    assert len(everything()) == 8
    assert len(calls) == 1
    assert InstalledDocs(valid=0.1).fingerprint() != before == InstalledDocs().fingerprint()
    for name in ("other", "ssl_nlp"):
        metadata = installed / f"{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        if name == "other":
            after = InstalledDocs().fingerprint()
            assert after != before
    assert InstalledDocs().fingerprint() == after  # of the project itself nothing is read
    assert len(everything()) == 8
    assert len(calls) == 2


def test_this_environment_is_found() -> None:
    tops = {top for root in source_roots() for _, top in source_files(root)}
    assert {"argparse", "email", "torch", "transformers"} <= tops
    assert not tops & {"ssl_nlp", "test", "idlelib", "site-packages"}


def test_only_the_largest_packages(installed: Path) -> None:
    for package, names in {"small": "ab", "large": "cdefghijkl", "middle": "mnopqrst"}.items():
        write(installed / package / "a.py", *names)
    whole = InstalledDocs(0.2, 0.2)
    corpus = InstalledDocs(0.2, 0.2, packages=2)
    assert {document.label for split in SPLITS for document in corpus.documents(split)} == {"large", "middle"}
    texts = [document.text for document in whole.documents("train") if document.label != "small"]
    assert [document.text for document in corpus.documents("train")] == texts
    assert corpus.fingerprint() != whole.fingerprint()
    with pytest.raises(UserError, match="`packages` must be 1 or more"):
        InstalledDocs(packages=0)


def test_the_first_paragraph_sums_up_the_others(installed: Path) -> None:
    expected = set()
    for number in range(12):
        summary, *rest = (SENTENCE.format(f"{name} {number}") for name in ("first", "second", "third"))
        docstring = "\n\n".join([summary, *rest])
        alone = SENTENCE.format(f"only {number}")
        (installed / f"a{number}.py").write_text(f'"""{docstring}"""\ndef f():\n    """{alone}"""\n')
        expected.add(Document("\n".join(rest), f"a{number}", summary))
    corpus = InstalledDocs(0.3, 0.3, summaries=True)
    assert {document for split in SPLITS for document in corpus.documents(split)} == expected
    assert corpus.fingerprint() != InstalledDocs(0.3, 0.3).fingerprint()
