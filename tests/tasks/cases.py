"""Every task, tiny, with data that it learns: what `test_every_task.py` and `test_distributed_tasks.py` go through.

A task is added by a line of `CASES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ssl_nlp.data import TextDataModule
from ssl_nlp.encoders import Transformer
from ssl_nlp.tasks import (
    Adversarial,
    Classification,
    QuestionAnswering,
    RDrop,
    Regression,
    RelationExtraction,
    SequenceToSequence,
    Tagging,
    Task,
)
from ssl_nlp.tasks.regularizers import Regularizer
from ssl_nlp.training import Optimization
from tests.data import test_questions
from tests.tasks import test_relations, test_tagging
from tests.tasks.corpora import topics
from tests.tasks.made import data_of


@dataclass
class Case:
    """A task, its data, and what regularizes its training. `drops` names the rate of dropout in its head, if it has one."""

    task: Callable[..., Task]
    data: Callable[[], TextDataModule]
    regularizers: Callable[[], Sequence[Regularizer]] = tuple
    drops: str | None = "dropout"

    @property
    def attacked(self) -> bool:
        """Whether a validation reports the metric under attack."""
        return any(isinstance(regularizer, Adversarial) for regularizer in self.regularizers())

    def made(self, dropout: float) -> Task:
        encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64, dropout=dropout)
        more = {} if self.drops is None else {self.drops: dropout}
        return self.task(encoder, optimization=Optimization(learning_rate=0.01, warmup=0), **more)


def several(*arguments, **settings):
    return Classification(*arguments, several=True, class_weights="balanced", **settings)


CASES = {
    "classification": Case(Classification, topics),
    "classification_pairs": Case(Classification, lambda: topics(pairs=True)),
    "classification_several": Case(several, lambda: topics("classes")),
    "classification_few": Case(Classification, lambda: topics(labels_per_class=9)),
    "classification_r_drop": Case(Classification, topics, lambda: [RDrop(2.0)]),
    "classification_fgm": Case(Classification, topics, lambda: [Adversarial("fgm", weight=0.5)]),
    "classification_pgd_r_drop": Case(
        lambda *arguments, **settings: Classification(*arguments, pairs=True, **settings),
        lambda: topics(pairs=True),
        lambda: [RDrop(), Adversarial("pgd", steps=2)],
    ),
    "several_r_drop": Case(several, lambda: topics("classes"), lambda: [RDrop()]),
    "regression": Case(Regression, lambda: topics("score")),
    "regression_r_drop_fgm": Case(Regression, lambda: topics("score"), lambda: [Adversarial(), RDrop()]),
    "tagging": Case(Tagging, lambda: data_of(list(test_tagging.people()), labels="tags"), lambda: [RDrop()]),
    "relations": Case(RelationExtraction, test_relations.relation_data, lambda: [Adversarial()]),
    "relations_r_drop": Case(RelationExtraction, test_relations.relation_data, lambda: [RDrop()]),
    "question_answering": Case(QuestionAnswering, test_questions.module, lambda: [RDrop(), Adversarial()]),
    "sequence_to_sequence": Case(SequenceToSequence, lambda: topics(None, pairs=True), lambda: [Adversarial()]),
}
