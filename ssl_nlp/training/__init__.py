"""The LightningModule that methods and tasks share: optimization, sums of losses, ranks, callbacks."""

from ssl_nlp.training.module import Module
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.players import Player
from ssl_nlp.training.ramp import Ramp
from ssl_nlp.training.row_adagrad import RowAdagrad
from ssl_nlp.training.sharding import FullySharded
from ssl_nlp.training.sums import Loss, Term

__all__ = ["FullySharded", "Loss", "Module", "Optimization", "Player", "Ramp", "RowAdagrad", "Term"]
