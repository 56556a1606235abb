"""Loads every method and task of this package, so that configurations and checkpoints can name them."""

from ssl_nlp.methods import Method
from ssl_nlp.tasks import Task

MODELS = (Method, Task)
