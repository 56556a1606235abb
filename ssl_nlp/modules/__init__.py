"""Parts with parameters that several methods or tasks use: heads, decoders, generation."""

from ssl_nlp.modules.decoder import Decoder
from ssl_nlp.modules.heads import LanguageModelHead, Projection

__all__ = ["Decoder", "LanguageModelHead", "Projection"]
