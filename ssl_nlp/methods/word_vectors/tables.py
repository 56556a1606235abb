"""The common part of all word vectors: tables, few rows of which change in a step."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ssl_nlp.data import TextDataModule
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method

BY_ROWS = ("ssl_nlp.training.RowAdagrad", "torch.optim.Adagrad", "torch.optim.SGD", "torch.optim.SparseAdam")
"""The optimizers that take gradients of some rows of a table."""


class WordVectors(Method):
    """A method that trains the token embedding of its encoder, and further tables of its own.

    With an optimizer of `BY_ROWS` a step costs as much as the rows that it reads, however many words there are.
    """

    @property
    def by_rows(self) -> bool:
        """Whether gradients of tables are sparse. The optimizer is that of another method where this one borrows."""
        return not self._lent and self.optimization.optimizer in BY_ROWS

    @property
    def vectors_only(self) -> bool:
        """Whether the encoder has no weights besides tables of vectors."""
        tables = {table.weight for table in self.encoder.modules() if isinstance(table, nn.Embedding)}
        return {*self.encoder.parameters()} == tables

    def build(self) -> None:
        self.tables()
        if self.by_rows:
            torch.sparse.check_sparse_tensor_invariants.disable()  # the default, of which torch warns unless it is said
        for table in self.modules():
            if isinstance(table, nn.Embedding):
                table.sparse = self.by_rows  # which tells DDP, too
        if self.vectors_only:
            with torch.no_grad():  # no pair trains the tokens of the frame, and the mean of a text counts them
                self.encoder.embedding.weight[~self.maskable] = 0

    def tables(self) -> None:
        """Create the tables besides the token embedding."""
        raise NotImplementedError

    def rows(self, table: nn.Embedding, ids: Tensor) -> Tensor:
        """(..., D): rows of a table. Its own `forward` would sort out the padding, which no pair has."""
        return F.embedding(ids, table.weight, sparse=table.sparse)

    @torch.no_grad()
    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        """The rarest word of each text, and the words whose vectors point most nearly the same way."""
        known = self.maskable & (self.token_counts > 0)
        every = torch.arange(self.vocab_size, device=known.device)
        unit = F.normalize(self.encoder.token_vectors(every).float(), dim=1)
        found = []
        for ids, _ in self.tokenizer.encode(texts):
            words = [token for token in ids if known[token]]
            if not words:
                continue
            word = min(words, key=lambda token: int(self.token_counts[token]))
            cosines = (unit @ unit[word]).masked_fill(~known, -torch.inf)
            cosines[word] = -torch.inf
            nearest = cosines.topk(min(5, int(known.sum()) - 1)).indices.tolist()
            similar = ", ".join(f"{self.tokenizer.token(token).strip()} {cosines[token]:.2f}" for token in nearest)
            found.append({"word": self.tokenizer.token(word).strip(), "nearest": similar})
        return found

    def check_data(self, data: TextDataModule) -> None:
        super().check_data(data)
        if not self._lent and not self.vectors_only:
            raise UserError(
                f"{type(self).__name__} trains word vectors and no other weights of a {type(self.encoder).__name__}: "
                "set encoder to ssl_nlp.encoders.BagOfWords"
            )
        if self.by_rows and self.sharded:
            raise UserError(
                f"{self.optimization.optimizer} gets gradients of some rows here, which cannot be sharded: use ddp, or "
                "another optimizer, such as adamw"
            )
        if self.by_rows and self.trained and self.trainer.gradient_clip_val:
            raise UserError(
                f"trainer.gradient_clip_val cannot clip gradients of some rows, which {self.optimization.optimizer} "
                "gets here: set it to null"
            )
