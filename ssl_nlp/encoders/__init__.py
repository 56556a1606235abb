"""From token batches to hidden states."""

from ssl_nlp.encoders.bag_of_words import BagOfWords
from ssl_nlp.encoders.base import Encoder
from ssl_nlp.encoders.pretrained import PretrainedEncoder
from ssl_nlp.encoders.recurrent import Recurrent
from ssl_nlp.encoders.text_cnn import TextCNN
from ssl_nlp.encoders.trained import Trained
from ssl_nlp.encoders.transformer import Transformer

__all__ = ["BagOfWords", "Encoder", "PretrainedEncoder", "Recurrent", "TextCNN", "Trained", "Transformer"]
