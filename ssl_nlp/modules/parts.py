"""The parts of a row with two texts, as in BERT (arXiv:1810.04805, section 3.2)."""

from torch import Tensor

from ssl_nlp.encoders import Encoder


def added_by_parts(parts: Tensor, encoder: Encoder) -> Tensor | None:
    """(B, T, E): what the parts (B, T) of tokens, 0 or 1, add to their embeddings; None without such an embedding.

    BERT has one. Most others, such as RoBERTa, ModernBERT and our Transformer, go by the special token between the texts.
    """
    own = encoder.part_embedding
    if own is None:
        return None
    added: Tensor = own(parts) - own(parts.new_zeros(1, 1))  # the encoder itself adds that of part 0
    return added
