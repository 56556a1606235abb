"""A stream of parts: their order, what is replayed, where it resumes, and what is refused."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from ssl_nlp.corpora import TextFiles
from ssl_nlp.data import ContinualDataModule, TextDataModule, TokenizerSettings
from ssl_nlp.data.parts import PartSampler, Phase
from ssl_nlp.data.sampler import BatchSampler
from ssl_nlp.errors import UserError
from tests.data.parted import CLASSES, write

ORDER = list(CLASSES)  # the order of their first documents


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    return {"train": write(folder / "train.tsv", 20), "valid": write(folder / "valid.tsv", 6, seed=1)}


def module(files, **settings):
    corpus = TextFiles(**files, test=None, label="intent", part="domain")
    given = {"tokenizer": TokenizerSettings(vocab_size=400), "unit": "text", "length": 24, "batch_size": 8}
    return ContinualDataModule(corpus, **given | {"labels": "class", "seed": 3} | settings)


def parts_of_batches(data):
    """For each training batch, the numbers of the parts of its rows."""
    parts = data.parts_of("train")
    return [parts[batch.documents.numpy()].tolist() for batch in data.train_dataloader()]


def test_the_parts_come_in_order_each_row_once_in_every_pass(files):
    data = module(files, epochs_per_part=2)
    assert data.part_names == ORDER
    batches = parts_of_batches(data)
    assert [part for batch in batches for part in batch] == [0] * 80 + [1] * 80 + [2] * 80
    documents = np.concatenate([batch.documents for batch in data.train_dataloader()])
    for part in range(3):
        assert np.unique(documents[part * 80 : part * 80 + 80], return_counts=True)[1].tolist() == [2] * 40
    assert data._train_sampler().ends == [10, 20, 30]


def test_the_order_can_be_given_and_parts_left_out(files):
    data = module(files, parts=["travel", "food"])
    assert [part for batch in parts_of_batches(data) for part in batch] == [0] * 40 + [1] * 40
    names = np.array(data.class_names)
    labels = np.concatenate([batch.labels for batch in data.train_dataloader()])
    assert set(names[labels[:40]]) == set(CLASSES["travel"])
    shown = np.concatenate([batch.documents for batch in data.val_dataloader()])
    assert len(shown) == 24 and (data.parts_of("valid")[shown] >= 0).all()


def test_a_number_deals_the_classes_out_in_their_order(files):
    data = module(files, parts=2)
    names = np.array(data.class_names)
    labels = np.concatenate([batch.labels for batch in data.train_dataloader()])
    assert set(names[labels[:60]]) == {"bread", "cat", "dog"}
    assert set(names[labels[60:]]) == {"ship", "soup", "train"}


@pytest.mark.parametrize("share", [0.05, 0.25])
def test_replay_keeps_the_share_of_each_earlier_part_and_mixes_it_into_every_pass(files, share):
    data = module(files, replay=share, epochs_per_part=2)
    kept = round(share * 40)
    ends, parts = data._train_sampler().ends, data.parts_of("train")
    documents = [batch.documents.numpy() for batch in data.train_dataloader()]
    memory: dict[int, set[int]] = {}
    for part, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        shown = np.concatenate(documents[start:end])
        for earlier in range(part):
            replayed = shown[parts[shown] == earlier]
            assert np.unique(replayed, return_counts=True)[1].tolist() == [2] * kept
            assert memory.setdefault(earlier, set(replayed)) == set(replayed)  # the memory of a part stays the same
        assert (parts[shown] == part).sum() == 80
    assert [*map(len, memory.values())] == [kept, kept]


def test_the_memory_depends_on_the_seed(files):
    def replayed(seed):
        data = module(files, replay=0.25, seed=seed)
        parts, documents = data.parts_of("train"), [b.documents.numpy() for b in data.train_dataloader()]
        last = np.concatenate(documents[data._train_sampler().ends[1] :])
        return set(last[parts[last] == 0])

    assert replayed(1) == replayed(1) != replayed(2)


def test_no_text_of_validation_is_trained_on_in_any_part(files, tmp_path):
    """A text that a part has in its validation, and another part in its training, stays in the validation only."""
    train, valid = tmp_path / "train.tsv", tmp_path / "valid.tsv"
    valid.write_text(Path(files["valid"]).read_text())
    leaked = valid.read_text().split("\n")[1].split("\t")[0]
    train.write_text(Path(files["train"]).read_text() + f"{leaked}\tship\ttravel\n{leaked}\tdog\tanimals\n")
    data = module({"train": str(train), "valid": str(valid)}, replay=0.5)
    texts = [document.text for document in data.corpus.documents("train")]
    shown = {texts[document] for batch in data.train_dataloader() for document in batch.documents.tolist()}
    assert len(shown) == 120
    assert shown.isdisjoint(document.text for document in data.corpus.documents("valid"))


def test_joint_shows_all_parts_at_once_for_as_many_batches(files):
    data = module(files, steps_per_part=7, joint=True)
    batches = parts_of_batches(data)
    assert len(batches) == 21
    assert {part for batch in batches[:5] for part in batch} == {0, 1, 2}


def test_validation_batches_are_of_one_part_each_and_show_every_row(files):
    data = module(files)
    parts = data.parts_of("valid")
    shown = [batch.documents.numpy() for batch in data.val_dataloader()]
    assert all(len(set(parts[documents])) == 1 for documents in shown)
    assert sorted(np.concatenate(shown)) == list(range(36))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("position", range(0, 26, 3))
def test_the_sampler_goes_on_from_any_position(position, rank):
    def sampler():
        phases = []
        for start, size, batches in ((0, 20, 11), (20, 33, 12), (53, 9, 3)):
            rows = np.arange(start, start + size)
            batch_sampler = BatchSampler(size, None, 2, rank, 2, seed=5, shuffle=True)
            phases.append(Phase(rows, batch_sampler, batches))
        return PartSampler(phases)

    whole, resumed = sampler(), sampler()
    resumed.position = position
    assert list(resumed) == list(islice(whole, position, None))
    assert len(list(whole)) == len(whole) == 26


def test_what_is_wrong_with_parts_is_said_in_one_line(files, tmp_path):
    one = write(tmp_path / "one.tsv", 3, parts=("food",))
    two = write(tmp_path / "two.tsv", 3, seed=2, parts=("food", "travel"))
    plain = TextFiles(**files, test=None, label="intent")
    settings = {"tokenizer": TokenizerSettings(vocab_size=400), "unit": "text", "length": 24, "labels": "class"}
    wrong = {
        "has a part: name the field that holds it": lambda: ContinualDataModule(plain, **settings).part_names,
        "one part only, 'food': a stream needs two": lambda: module(files | {"train": one}).part_names,
        "'sports' is not among the parts of .*: choose from animals": lambda: (
            module(files, parts=["sports"]).part_names
        ),
        "has the part 'animals', which the train split does not have": lambda: module(files | {"train": two}).parts_of(
            "valid"
        ),
        "no document of the part 'animals', whose score": lambda: module(files | {"valid": two}).parts_of("valid"),
        "data.parts 9: there are 6 classes": lambda: module(files, parts=9).part_names,
        "share from 0 to 1, not 1.5": lambda: module(files, replay=1.5),
        "set one of them": lambda: module(files, steps_per_part=3, epochs_per_part=1),
        "nothing to replay": lambda: module(files, joint=True, replay=0.1),
        "set it to text": lambda: module(files, unit="block", labels=None),
        "set data.labels to class": lambda: module(files, parts=2, labels=None),
    }
    for message, make in wrong.items():
        with pytest.raises(UserError, match=message):
            make()


def test_a_class_that_only_the_validation_has_is_refused_by_its_name(files, tmp_path):
    valid = tmp_path / "valid.tsv"
    valid.write_text(Path(files["valid"]).read_text() + "a boat with sails\tboat\ttravel\n")
    with pytest.raises(UserError, match="the class 'boat' is not among those of the train split"):
        module(files | {"valid": str(valid)}).store("valid")


def test_an_ordinary_module_does_not_need_the_parts(files):
    corpus = TextFiles(**files, test=None, label="intent", part="domain")
    assert {document.part for document in corpus.documents("valid")} == set(ORDER)
    data = TextDataModule(corpus, TokenizerSettings(vocab_size=400), "text", 24, 8, labels="class")
    assert len(data.train_dataloader()) == 15
