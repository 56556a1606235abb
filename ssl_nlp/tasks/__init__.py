"""Supervised tasks on an encoder: one file, one LightningModule each; and callbacks that regularize any of them."""

from ssl_nlp.tasks.adversarial import Adversarial
from ssl_nlp.tasks.base import Task
from ssl_nlp.tasks.classification import Classification
from ssl_nlp.tasks.question_answering import QuestionAnswering
from ssl_nlp.tasks.regression import Regression
from ssl_nlp.tasks.regularizers import RDrop
from ssl_nlp.tasks.relations import RelationExtraction
from ssl_nlp.tasks.sequence_to_sequence import SequenceToSequence
from ssl_nlp.tasks.tagging import Tagging

__all__ = [
    "Adversarial",
    "Classification",
    "QuestionAnswering",
    "RDrop",
    "Regression",
    "RelationExtraction",
    "SequenceToSequence",
    "Tagging",
    "Task",
]
