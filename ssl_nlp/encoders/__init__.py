"""From token batches to hidden states."""

from ssl_nlp.encoders.base import Encoder
from ssl_nlp.encoders.pretrained import PretrainedEncoder
from ssl_nlp.encoders.trained import Trained
from ssl_nlp.encoders.transformer import Transformer

__all__ = ["Encoder", "PretrainedEncoder", "Trained", "Transformer"]
