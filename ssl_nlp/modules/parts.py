"""Embeddings that tell the two texts of a row apart, as in BERT (arXiv:1810.04805, section 3.2)."""

from torch import Tensor, nn

from ssl_nlp.encoders import Encoder


def new_part_embedding(encoder: Encoder) -> nn.Embedding | None:
    """An embedding (2, E) of the parts of a row; None if the encoder has its own, as BERT does."""
    if encoder.part_embedding is not None:
        return None
    embedding = nn.Embedding(2, encoder.embedding.embedding_dim)
    nn.init.trunc_normal_(embedding.weight, std=0.02, a=-0.04, b=0.04)
    return embedding


def added_by_parts(parts: Tensor, encoder: Encoder, embedding: nn.Embedding | None) -> Tensor:
    """(B, T, E): what the parts (B, T) of tokens, 0 or 1, add to their embeddings.

    Args:
        embedding: from `new_part_embedding`.
    """
    if embedding is not None:
        added: Tensor = embedding(parts)
        return added
    own = encoder.part_embedding
    assert own is not None
    return own(parts) - own(parts.new_zeros(1, 1))  # the encoder itself adds that of part 0
