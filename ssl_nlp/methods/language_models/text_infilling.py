"""BART's text infilling (Lewis et al., arXiv:1910.13461, section 2.2).

    loss = - sum over t of log p(x_t | x_1 ... x_{t-1}, x with a mask for each missing span)

The encoder sees a text from which spans are missing, 30 % of its tokens on average, in spans of Poisson(3) length, each
replaced by a single mask: it has to say how many tokens are missing, which may be none. The number of spans is drawn,
too; a text of fewer than 10 tokens or so may have none (`mask_spans`, which also says what differs from the authors'
code). With `permute_sentences` the sentences that it sees are in random order. The decoder writes the whole text, its
end included. In a validation 30 % are always missing in spans of 3, and sentences are in order.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError
from ssl_nlp.methods.language_models.denoising import Denoising
from ssl_nlp.modules import BeamSearch
from ssl_nlp.modules.decoder import check_prefix
from ssl_nlp.objectives.infilling import Noise, mask_spans, permute_sentences, whole_text
from ssl_nlp.training.optimization import Optimization

ENDS = (".", "!", "?", "…", "。", "！", "？", "।", "؟")
"""With what sentences end in the scripts that mark their ends."""


class TextInfilling(Denoising):
    """Encoder-decoder that writes a text of which spans are missing. Its embedding is the mean of the encoder's states.

    Args:
        encoder: bidirectional.
        masking_rate: share of the tokens that are missing in training, on average for texts of each length.
        mean_span: mean length of a missing span in training, in tokens.
        permute_sentences: show the encoder the sentences of a text in random order, in training. They end with a token
            that ends with a full stop, or a question or exclamation mark.
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
            mask token, or puts nothing in front of a text; or as `CrossDecoder`.
    """

    validation = Noise(rate=0.3, mean_span=3.0)
    ends: Tensor  # (V,) bool, the tokens that end a sentence

    def __init__(
        self,
        encoder: Encoder | None = None,
        masking_rate: float = 0.3,
        mean_span: float = 3.0,
        permute_sentences: bool = False,
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
        self.permute_sentences = permute_sentences

    def build(self) -> None:
        if self.tokenizer.mask_id is None:
            raise UserError("this tokenizer has no mask token: TextInfilling needs one, CausalLM does not")
        check_prefix(self.tokenizer)
        super().build()
        if self.permute_sentences:
            ends = [self.tokenizer.token(i).rstrip().endswith(ENDS) for i in range(self.vocab_size)]
            self.register_buffer("ends", torch.tensor(ends) & self.maskable, persistent=False)

    def corrupt(self, batch: TokenBatch, noise: Noise) -> tuple[TokenBatch, TokenBatch]:
        assert self.tokenizer.mask_id is not None
        seen = batch
        if self.permute_sentences and self.training:
            seen = permute_sentences(batch, self.ends, self.frame)
        source = mask_spans(seen, noise, self.tokenizer.mask_id, self.frame, self.encoder.max_length)
        return source, whole_text(batch, self.frame)

    def marked(self, text: str) -> list[int]:
        return self.tokenizer.encode_with_masks(text)

    def longest(self, source_tokens: int) -> int:
        return max(super().longest(source_tokens), source_tokens + 10)  # whatever the limit, what is given has room

    def filled(self, source: Sequence[int], written: Sequence[int]) -> str:
        return self.tokenizer.decode(written)
