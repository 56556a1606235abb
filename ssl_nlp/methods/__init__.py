"""Self-supervised methods: one file, one LightningModule each."""

from ssl_nlp.methods.autoencoder import Autoencoder
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.causal_lm import CausalLM
from ssl_nlp.methods.contrastive import Projection
from ssl_nlp.methods.loss import Loss, Term
from ssl_nlp.methods.masked_lm import MaskedLM
from ssl_nlp.methods.moco import MoCo
from ssl_nlp.methods.multi_objective import MultiObjective
from ssl_nlp.methods.optimization import Optimization
from ssl_nlp.methods.replaced_token import ReplacedToken
from ssl_nlp.methods.simclr import SimCLR
from ssl_nlp.methods.vae import VAE

__all__ = [
    "VAE",
    "Autoencoder",
    "CausalLM",
    "Loss",
    "MaskedLM",
    "Method",
    "MoCo",
    "MultiObjective",
    "Optimization",
    "Projection",
    "ReplacedToken",
    "SimCLR",
    "Term",
]
