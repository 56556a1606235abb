"""Self-supervised methods: one file, one LightningModule each."""

from ssl_nlp.methods.base import Method
from ssl_nlp.methods.causal_lm import CausalLM
from ssl_nlp.methods.loss import Loss, Term
from ssl_nlp.methods.masked_lm import MaskedLM
from ssl_nlp.methods.multi_objective import MultiObjective
from ssl_nlp.methods.optimization import Optimization

__all__ = ["CausalLM", "Loss", "MaskedLM", "Method", "MultiObjective", "Optimization", "Term"]
