"""Few labelled texts: which they are, and how classes are counted."""

from collections import Counter

import pytest

from ssl_nlp.data import TokenizerSettings
from ssl_nlp.errors import UserError
from tests.tasks.corpora import NUMBER, Topics, topics


def chosen(**settings):
    """The documents of the train split that training reads."""
    return sorted(number for batch in topics(**settings).train_dataloader() for number in batch.documents.tolist())


def test_training_reads_so_many_documents_of_each_class_and_more_contain_fewer():
    few, more, all_of_them = (chosen(labels_per_class=number) for number in (4, 16, 1000))
    assert Counter(Topics().document(number).label for number in few) == {"animals": 4, "fruits": 4}
    assert len(few) == 8 and len(more) == 32 and set(few) < set(more)
    assert all_of_them == list(range(NUMBER))
    assert chosen(labels_per_class=4, labels_seed=1) != few


def test_they_do_not_depend_on_the_tokenizer_or_on_the_seed_of_the_run():
    few = chosen(labels_per_class=4)
    assert chosen(labels_per_class=4, tokenizer=TokenizerSettings(kind="char"), seed=7, length=10) == few


def test_pairs_and_texts_of_several_classes_are_chosen_too():
    pairs = chosen(pairs=True, labels_per_class=5)
    assert Counter(Topics(pairs=True).document(number).label for number in pairs) == {"animals": 5, "fruits": 5}
    several = [Topics("classes").document(number).label for number in chosen(kind="classes", labels_per_class=6)]
    counts = Counter(name for label in several for name in label)
    assert min(counts.values()) >= 6 and len(several) < 18


def test_classes_are_counted_among_the_rows_that_are_read():
    assert [counts.tolist() for counts in topics().class_counts()[:1]] == [[60, 60]]
    counts, rows = topics(pairs=True, labels_per_class=5).class_counts()
    assert counts.tolist() == [5, 5] and rows == 10


def test_other_labels_cannot_be_chosen_by_class():
    with pytest.raises(UserError, match="set data.labels to 'class' or 'classes', not score"):
        topics("score", labels_per_class=4)
    with pytest.raises(UserError, match="labels_per_class must be 1 or more"):
        topics(labels_per_class=0)
