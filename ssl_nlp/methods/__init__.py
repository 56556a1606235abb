"""Self-supervised methods: one file, one LightningModule each."""

from ssl_nlp.methods.adversarial.arae import ARAE
from ssl_nlp.methods.autoencoding.autoencoder import Autoencoder
from ssl_nlp.methods.autoencoding.vae import VAE
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.contrastive.moco import MoCo
from ssl_nlp.methods.contrastive.simclr import SimCLR
from ssl_nlp.methods.language_models.bidirectional_lm import BidirectionalLM
from ssl_nlp.methods.language_models.causal_lm import CausalLM
from ssl_nlp.methods.language_models.causal_masked_lm import CausalMaskedLM
from ssl_nlp.methods.language_models.masked_diffusion import MaskedDiffusion
from ssl_nlp.methods.language_models.masked_lm import MaskedLM
from ssl_nlp.methods.language_models.ngram_lm import NGramLM
from ssl_nlp.methods.language_models.replaced_token import ReplacedToken
from ssl_nlp.methods.language_models.span_corruption import SpanCorruption
from ssl_nlp.methods.language_models.text_infilling import TextInfilling
from ssl_nlp.methods.multi_objective import MultiObjective
from ssl_nlp.methods.word_vectors.cbow import CBOW
from ssl_nlp.methods.word_vectors.glove import GloVe
from ssl_nlp.methods.word_vectors.skip_gram import SkipGram
from ssl_nlp.modules import Projection
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.players import Player
from ssl_nlp.training.ramp import Ramp
from ssl_nlp.training.sums import Loss, Term

__all__ = [
    "ARAE",
    "CBOW",
    "VAE",
    "Autoencoder",
    "BidirectionalLM",
    "CausalLM",
    "CausalMaskedLM",
    "GloVe",
    "Loss",
    "MaskedDiffusion",
    "MaskedLM",
    "Method",
    "MoCo",
    "MultiObjective",
    "NGramLM",
    "Optimization",
    "Player",
    "Projection",
    "Ramp",
    "ReplacedToken",
    "SimCLR",
    "SkipGram",
    "SpanCorruption",
    "Term",
    "TextInfilling",
]
