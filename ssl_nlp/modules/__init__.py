"""Parts with parameters that several methods or tasks use: heads, decoders, generation."""

from ssl_nlp.modules.beam_search import BeamSearch
from ssl_nlp.modules.cross_decoder import CrossDecoder
from ssl_nlp.modules.decoder import Decoder
from ssl_nlp.modules.heads import LanguageModelHead, Projection

__all__ = ["BeamSearch", "CrossDecoder", "Decoder", "LanguageModelHead", "Projection"]
