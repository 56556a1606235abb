"""T5's span corruption (Raffel et al., arXiv:1910.10683, section 3.1.4).

    loss = - sum over t of log p(y_t | y_1 ... y_{t-1}, x with a sentinel for each missing span)
    y = <sentinel 0> span 0 <sentinel 1> span 1 ... <end>

The encoder sees a text from which spans are missing, 15 % of its tokens in spans of 3 on average, each replaced by a
sentinel of its own; the decoder writes the missing spans, each after its sentinel. It need not copy the rest of the text,
which makes a step cheaper than BART's. A validation always lacks 15 % in spans of 3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.language_models.denoising import Denoising
from ssl_nlp.modules import BeamSearch
from ssl_nlp.objectives.infilling import Noise, corrupt_spans
from ssl_nlp.training.optimization import Optimization


class SpanCorruption(Denoising):
    """Encoder-decoder that writes the spans missing from a text. Its embedding is the mean of the encoder's states.

    The tokenizer needs as many sentinels as a text has missing spans: `data.tokenizer.sentinels`, or those of a T5.

    Args:
        encoder: bidirectional.
        masking_rate: share of the tokens of each text that are missing in training.
        mean_span: mean length of a missing span in training, in tokens.
        decoder_layers: number of layers of the decoder.
        decoder_width: width of its states; null: that of the encoder's token embedding.
        dropout: of the decoder, as in `Transformer`.
        tied_embeddings: let encoder and decoder share the token embedding; the output layer shares the decoder's in any
            case.
        search: how the most probable fillings are searched for.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.

    Raises:
        UserError: arguments are invalid; all of them are listed in one line. In `connect`, the tokenizer has no
            sentinels; or as `CrossDecoder`.
    """

    validation = Noise(rate=0.15, mean_span=3.0)
    sentinels: Tensor  # ids

    def __init__(
        self,
        encoder: Encoder | None = None,
        masking_rate: float = 0.15,
        mean_span: float = 3.0,
        decoder_layers: int = 2,
        decoder_width: int | None = None,
        dropout: float = 0.0,
        tied_embeddings: bool = True,
        search: BeamSearch | None = None,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(
            encoder, masking_rate, mean_span, decoder_layers, decoder_width, dropout, tied_embeddings, search,
            optimization, compile,
        )  # fmt: skip

    def build(self) -> None:
        if not self.tokenizer.sentinel_ids:
            raise UserError(
                "this tokenizer has no sentinels to stand for missing spans: train one with data.tokenizer.sentinels, such "
                "as 32, or take TextInfilling, which needs none"
            )
        super().build()
        self.register_buffer("sentinels", torch.tensor(self.tokenizer.sentinel_ids), persistent=False)

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        ids = self.sentinels.new_zeros(1, data.length)
        for noise in (self.noise, self.validation):  # are there enough sentinels?
            with torch.random.fork_rng():
                self.corrupt(TokenBatch(ids, torch.ones_like(ids), packed=False), noise)

    def corrupt(self, batch: TokenBatch, noise: Noise) -> tuple[TokenBatch, TokenBatch]:
        return corrupt_spans(batch, noise, self.sentinels, self.frame)

    @property
    def special_written(self) -> Sequence[int]:
        return self.tokenizer.sentinel_ids

    def marked(self, text: str) -> list[int]:
        return self.tokenizer.encode_with_masks(text, self.tokenizer.sentinel_ids)

    def filled(self, source: Sequence[int], written: Sequence[int]) -> str:
        sentinels = {*self.tokenizer.sentinel_ids}
        spans: dict[int, list[int]] = {}
        span: list[int] = []  # a span without a sentinel is lost
        for token in written:
            if token in sentinels:
                span = spans[token] = []
            else:
                span.append(token)
        return self.tokenizer.decode([new for token in source for new in spans.get(token, [token])])
