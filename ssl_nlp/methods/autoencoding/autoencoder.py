"""An autoencoder of sentences; with noise, a denoising one.

    loss = - log p(x | v),   v = W pool(encoder(noise(x)))

The encoder sees a sentence x, perhaps distorted; the decoder sees one vector v and the tokens that it has to continue, and
has to write the original sentence. Only what v holds can be written: v is the embedding of the sentence. With
`Delete(0.6)` as the noise and tied embeddings this is TSDAE (Wang et al., arXiv:2104.06979, section 3), though its decoder
attends to v where ours adds v to every token embedding, and ties all weights of encoder and decoder.

Noise is for training only: in a validation the encoder sees the sentence itself, so that runs with different noise are
comparable.
"""

from torch import Tensor, nn

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.autoencoding.sentence_decoding import SentenceDecoding, examined, take_rows
from ssl_nlp.modules.decoder import DecoderKind
from ssl_nlp.modules.pooling import pool
from ssl_nlp.objectives.views import Mask, View, apply_views
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term


class Autoencoder(SentenceDecoding):
    """Sentence to vector to sentence. Its embedding is the vector of the sentence without noise.

    Validation adds `token_accuracy` and `exact_match` of what the decoder writes from the vector alone, on 8 sentences of
    each batch.

    Args:
        encoder: bidirectional.
        latent_dim: width Z of the vector; None: the mean of the encoder's states as it is.
        noise: corruptions of the sentences in training, one after the other; none: a plain autoencoder.
        decoder_layers: number of layers of the decoder.
        decoder_kind: `transformer`, or a recurrent network: `lstm`, `gru` or `rnn`.
        tied_embeddings: let encoder and decoder share their token embeddings.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: an argument is invalid; or, in `connect`, the tokenizer puts nothing in front of a sentence, or
            has no mask token for `Mask` as noise.
    """

    vector_scale = 0.1  # learns faster than 0.02 and 0.4

    def __init__(
        self,
        encoder: Encoder | None = None,
        latent_dim: int | None = None,
        noise: list[View] | None = None,
        decoder_layers: int = 2,
        decoder_kind: DecoderKind = "transformer",
        tied_embeddings: bool = False,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, latent_dim, decoder_layers, decoder_kind, tied_embeddings, optimization, compile)
        self.noise = noise or []

    def build(self) -> None:
        if self.tokenizer.mask_id is None and any(isinstance(view, Mask) for view in self.noise):
            raise UserError("this tokenizer has no mask token: use Delete or Replace as noise instead of Mask")
        super().build()
        if self.latent_dim is not None:
            self.bottleneck = nn.Linear(self.encoder.dim, self.latent_dim)

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        self.check_views(self.noise, data.length)

    def own_embedding(self, hidden: Tensor, batch: TokenBatch) -> Tensor | None:
        return None if self.latent_dim is None else self.bottleneck(pool(hidden, batch, self.pooling))

    def count_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        return {"reconstruction": (self.targets(batch) != IGNORE_INDEX).sum()}

    def loss(self, batch: TokenBatch) -> Loss:
        seen = apply_views(self.noise, batch, self.vocabulary) if self.training else batch
        vectors = self.embed_batch(seen)
        loss = Loss({"reconstruction": Term(*self.decoder.loss(vectors, batch, self.targets(batch)))})
        if not self.training:
            rows = examined(len(batch)).to(vectors.device)
            loss.metrics = self.accuracies(vectors[rows], take_rows(batch, rows))
        return loss
