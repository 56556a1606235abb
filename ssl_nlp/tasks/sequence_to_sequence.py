"""A text from another text: translation, summaries, answers in a dialogue.

    loss = - sum over t of log p(y_t | y_1 ... y_{t-1}, x)

The model sees the source x and the preceding tokens of the target y, and predicts every token of y, the end included. In an
encoder-decoder (Vaswani et al., arXiv:1706.03762) the encoder reads x in both directions, and the decoder attends to its
states. In a decoder alone (Liu et al., arXiv:1801.10198) a causal encoder reads one row, x and then y.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from ssl_nlp.corpora.base import Document, Split
from ssl_nlp.data import TextDataModule, TokenBatch
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Encoder
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.evaluation.generated_text import check_packages, score_texts
from ssl_nlp.evaluation.result import Result
from ssl_nlp.modules import BeamSearch, CrossDecoder, LanguageModelHead
from ssl_nlp.modules.cross_decoder import beginning, begun, decoder_problems
from ssl_nlp.modules.generation import Continuation
from ssl_nlp.objectives.pairs import Pairing, join_pairs
from ssl_nlp.tasks.base import Task
from ssl_nlp.tasks.documents import plain
from ssl_nlp.training.optimization import Optimization
from ssl_nlp.training.sums import Loss, Term
from ssl_nlp.training.texts import cut_rows, listed

Form = Literal["encoder_decoder", "decoder_only"]
BATCH = 64
"""Texts that are written at a time."""


class SequenceToSequence(Task):
    """Learns to write the second text of each pair from the first.

    A validation reports, beside the loss (nats per token, without smoothing), its `perplexity` and `bits_per_byte` of the
    targets, and BLEU, chrF and ROUGE (`ssl_nlp.evaluation.generated_text`) of the outputs for the first pairs of the split;
    a test decodes all of them. The decoded pairs become the samples of the run.

    Args:
        encoder: of the source, new or trained. For `decoder_only` it reads both texts and is causal.
        form: `encoder_decoder`, or `decoder_only`: source and target in one row, each in the tokenizer's frame, so that the
            beginning of the target's frame separates them; the loss is on the target alone.
        decoder_layers: number of layers of the decoder. This and the next three arguments are for `encoder_decoder`.
        decoder_width: width of its states; null: that of the encoder's token embedding.
        dropout: of the decoder, as in `Transformer`.
        tied_embeddings: let encoder and decoder share the token embedding; the output layer shares the decoder's in any
            case. An embedding that is frozen in the encoder is then frozen in the decoder, too.
        label_smoothing: in training, this share of each target's probability is spread evenly over the vocabulary.
        search: how outputs are searched for.
        decoded: pairs of so many documents, the first ones of the split, are decoded at each validation; null: all.
        optimization: optimizer and schedule.
        compile: compile the encoder with `torch.compile`.
    """

    labels = None
    units = ("pair",)
    monitor = ("bleu", True)

    def __init__(
        self,
        encoder: Encoder | None = None,
        form: Form = "encoder_decoder",
        decoder_layers: int = 3,
        decoder_width: int | None = None,
        dropout: float = 0.1,
        tied_embeddings: bool = True,
        label_smoothing: float = 0.1,
        search: BeamSearch | None = None,
        decoded: int | None = 200,
        optimization: Optimization | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__(encoder, None, optimization, compile)
        problems = {
            f"form {form!r} is unknown: use encoder_decoder or decoder_only": form not in get_args(Form),
            **decoder_problems(decoder_layers, decoder_width, dropout),
            f"label_smoothing must be at least 0 and less than 1, not {label_smoothing}": not 0 <= label_smoothing < 1,
            f"decoded must be 1 or more, or null, not {decoded}": decoded is not None and decoded < 1,
        }
        refuse(problems)
        self.form: Form = form
        self.decoder_layers, self.decoder_width, self.dropout = decoder_layers, decoder_width, dropout
        self.tied_embeddings, self.label_smoothing = tied_embeddings, label_smoothing
        self.search, self.decoded = search or BeamSearch(), decoded
        self.causal = form == "decoder_only"
        if self.causal:
            self.pooling = "last"
        self._texts: dict[tuple[Split, int], list[tuple[str, str]]] = {}  # of documents that were decoded
        self._samples: list[dict[str, str]] = []

    def build(self) -> None:
        if self.form == "decoder_only":
            self.head = LanguageModelHead(self.encoder.dim, self.encoder.embedding)
        else:
            self.decoder = CrossDecoder(
                self.decoder_layers,
                self.encoder,
                self.tokenizer,
                self.decoder_width,
                self.dropout,
                self.tied_embeddings,
            )

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        check_packages(type(self).__name__)

    # ------------------------------------------------------------------------------------------------------------ loss

    def outputs(self, batch: TokenBatch) -> Tensor:
        """(B, S, D): states of the sources; for `decoder_only` (B, S + T, D), of sources and targets in one row."""
        return self.encoder(batch if self.form == "encoder_decoder" else self._joined(batch)[0])

    def loss_of(self, outputs: Tensor, batch: TokenBatch) -> Loss:
        target = self._target(batch)
        smoothing = self.label_smoothing if self.training else 0.0
        if self.form == "encoder_decoder":
            term = Term(*self.decoder.loss(outputs, batch, target, smoothing))
        else:
            following = self._joined(batch)[1]
            predicted = following != IGNORE_INDEX  # the sources, often the longer part, need no logits
            term = Term(*self.head.loss(outputs[predicted], following[predicted], smoothing))
        loss = Loss({"target_token": term})
        if not self.training:
            rows = zip(target.input_ids, target.is_text, strict=True)
            sizes = [len(self.tokenizer.decode(ids[real].tolist()).encode()) for ids, real in rows]
            size = torch.tensor(sum(sizes), device=term.total.device)
            loss.metrics = {"bits_per_byte": (term.total / math.log(2), size)}
        return loss

    def own_targets(self, batch: TokenBatch) -> dict[str, Tensor]:
        following = self._target(batch).next_ids
        assert following is not None
        return {"target_token": (following != IGNORE_INDEX).sum()}

    def _target(self, batch: TokenBatch) -> TokenBatch:
        """The targets as a decoder reads and predicts them."""
        if batch.pair is None:
            raise UserError("SequenceToSequence needs a target beside each text: set data.unit to pair")
        return begun(batch.pair, self.tokenizer)

    def _joined(self, batch: TokenBatch) -> tuple[TokenBatch, Tensor]:
        """Rows of source and target, and the target's token that follows each position (B, S + T), or `IGNORE_INDEX`."""
        target = self._target(batch)
        assert target.next_ids is not None
        drop = self._dropped
        own = torch.arange(len(batch), device=batch.input_ids.device)
        pairing = Pairing(own, own + len(batch), torch.ones_like(own, dtype=torch.bool))
        rows, _ = join_pairs(replace(batch, pair=target), pairing, self.tokenizer.pad_id, drop)
        # A position of the target, counted in its own row: the last of the source stands for those that were dropped.
        place = torch.arange(rows.input_ids.shape[1], device=own.device) - batch.is_text.sum(dim=1, keepdim=True) + drop
        inside = (place >= max(drop - 1, 0)) & (place < target.input_ids.shape[1])
        following = target.next_ids.gather(1, place.clamp(0, target.input_ids.shape[1] - 1))
        return rows, following.masked_fill(~inside, IGNORE_INDEX)

    @property
    def _dropped(self) -> int:
        """How many tokens of the target's `beginning` a row with the source leaves out.

        [CLS] x [SEP] y [SEP], x </s> y </s>, but <s> x <s> y.
        """
        return len(beginning(self.tokenizer)) if self.tokenizer.suffix else 0

    def summarize(self, means: dict[str, Tensor], statistics: TextStatistics | None) -> dict[str, Tensor]:
        return super().summarize(means, statistics) | {"perplexity": means["loss"].exp()}

    # -------------------------------------------------------------------------------------------------------- decoding

    def items(self, outputs: Tensor, batch: TokenBatch) -> list[tuple[int, list[int], str] | None]:
        """For each row that is decoded, the number of its document, the tokens of its target, and the output."""
        assert batch.documents is not None
        numbers = batch.documents.tolist()
        most = math.inf if self.decoded is None or self.trainer.testing else self.decoded
        # By document and not by batch: the same pairs, whatever the batch size and the number of ranks.
        rows = [row for row, number in enumerate(numbers) if number < most]
        found: list[tuple[int, list[int], str] | None] = [None] * len(batch)
        if rows:
            sources = self._sources(batch.input_ids[rows], batch.segment_ids[rows])
            written = self._search(sources, outputs[rows] if self.form == "encoder_decoder" else None)
            assert batch.pair is not None
            targets, real = batch.pair.input_ids, batch.pair.is_text
            for row, (output, _) in zip(rows, written, strict=True):
                found[row] = numbers[row], targets[row, real[row]].tolist(), output
        return found

    def result(self, items: list[tuple[int, list[int], str] | None]) -> Result:
        decoded = [item for item in items if item is not None]
        if not decoded:  # a validation of few batches may have none of the first documents
            return Result("bleu", {})
        pairs = self._pairs("test" if self.trainer.testing else "valid", decoded)
        outputs = [output for *_, output in decoded]
        self._samples = [
            {"source": source, "reference": reference, "output": output}
            for (source, reference), output in zip(pairs, outputs, strict=True)
        ]
        return score_texts(outputs, [reference for _, reference in pairs])

    def _pairs(self, split: Split, decoded: list[tuple[int, list[int], str]]) -> list[tuple[str, str]]:
        """Source and reference of each decoded row as the corpus has them: tokens may have lost case or white space."""
        assert self._data is not None
        if missing := {number for number, *_ in decoded if (split, number) not in self._texts}:
            for number, document in enumerate(self._data.corpus.documents(split)):
                if number in missing:
                    texts = self._data.maker.texts(document)
                    self._texts[split, number] = list(zip(texts[::2], texts[1::2], strict=True))
        pairs = []
        for number, tokens, _ in decoded:
            candidates = self._texts[split, number]
            if len(candidates) > 1:  # consecutive sentences
                targets = self.tokenizer.encode([target for _, target in candidates])
                candidates = [
                    c for c, (ids, _) in zip(candidates, targets, strict=True) if ids[: len(tokens)] == tokens
                ]
            pairs.append(candidates[0])
        return pairs

    def sample_documents(self, documents: list[Document]) -> list[dict[str, str]]:
        return self._samples

    def predict(self, texts: Iterable[str], batch_size: int = BATCH) -> list[str]:
        """The output for each text, found by `search`.

        Sources that are too long for the encoder are cut, with a `TextsCut` warning.
        """
        return [output for output, _ in self._written(texts, batch_size)]

    def predict_records(
        self, documents: Sequence[Document], batch_size: int = BATCH, data: TextDataModule | None = None
    ) -> list[dict[str, Any]]:
        """The record of each document, in their order: its text, its pair if it has one, and the `prediction`.

        `log_probability` is that of the prediction given the source, its end included, in nats.

        Args:
            documents: sources; a pair is not read.
            batch_size: documents at a time.
            data: sources are cut as in a test on them; None: as long as there is room for.
        """
        texts = [document.text for document in documents]
        limits = None if data is None else data.maker.text_lengths(data.length)
        outputs = self._written(texts, batch_size, None if limits is None else limits[0])
        return [
            plain(document) | {"prediction": output, "log_probability": log_p}
            for document, (output, log_p) in zip(documents, outputs, strict=True)
        ]

    @torch.no_grad()
    def _written(self, texts: Iterable[str], batch_size: int, most: int | None = None) -> list[tuple[str, float]]:
        """The output for each text and its log p, in their order, in evaluation mode; the mode is restored after.

        Args:
            texts: sources.
            batch_size: texts at a time.
            most: tokens that are read of each text, if that is less than there is room for.
        """
        room = self._room
        rows = [ids[:most] for ids, _ in self.tokenizer.encode(listed(texts, batch_size))]
        rows = cut_rows(rows, self.tokenizer, room)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        outputs = [("", 0.0)] * len(rows)
        with self.evaluating():
            for start in range(0, len(rows), batch_size):
                some = order[start : start + batch_size]
                batch = pad_rows([rows[i] for i in some], None, self.tokenizer, room).to(self.device)
                for i, output in zip(some, self._search(batch), strict=True):
                    outputs[i] = output
        return outputs

    def _search(self, batch: TokenBatch, states: Tensor | None = None) -> list[tuple[str, float]]:
        """The output for each source, whose states (B, S, D) may be known, and its log p."""
        longest = self._longest(batch)
        found = self.search.scored(self._begin(batch, max(longest) + 1, states), longest)
        return [(self.tokenizer.decode(tokens), log_p) for tokens, log_p in found]

    def _begin(self, batch: TokenBatch, steps: int, states: Tensor | None = None) -> Continuation:
        """The beginning of the target of each source, to be continued by at most `steps` tokens."""
        if self.form == "encoder_decoder":
            return self.decoder.begin(self.encoder(batch) if states is None else states, batch, steps)
        lengths = batch.is_text.sum(dim=1).tolist()
        rows = [ids[:length] + self._beginning for ids, length in zip(batch.input_ids.tolist(), lengths, strict=True)]
        return Continuation(self.encoder, self.head, self.tokenizer, rows, steps)

    @property
    def _beginning(self) -> list[int]:
        """The tokens between source and target in one row, without the frame of the source."""
        return beginning(self.tokenizer)[self._dropped :]

    def _longest(self, batch: TokenBatch) -> list[int]:
        """The most tokens of the output for each source."""
        left = self.encoder.max_length - self._room - len(self._beginning)
        most = self.decoder.longest if self.form == "encoder_decoder" else left
        return [min(self.search.longest(length), most) for length in batch.is_text.sum(dim=1).tolist()]

    @property
    def _room(self) -> int:
        """The longest source in tokens. In one row with the source, the target has at most half of the room."""
        longest = self.encoder.max_length
        if self.form == "encoder_decoder":
            return longest
        return longest - min(self.search.max_new_tokens, longest // 2) - len(self._beginning)

    def _sources(self, ids: Tensor, segment_ids: Tensor) -> TokenBatch:
        """Sources as far as there is room for them."""
        return TokenBatch(ids[:, : self._room], segment_ids[:, : self._room], packed=False)
