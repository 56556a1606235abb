"""GPT: predict the next token (Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018).

    loss = - sum over t of log p(x_{t+1} | x_1 ... x_t)

The model sees each document from its start token on and predicts every token of it, the end included.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.batch import concatenate
from ssl_nlp.data.store import TextStatistics
from ssl_nlp.errors import UserError
from ssl_nlp.methods.base import Method
from ssl_nlp.methods.head import LanguageModelHead
from ssl_nlp.methods.loss import Loss, Term


class CausalLM(Method):
    """Autoregressive language model over a causal encoder. Its embedding is the state of the last token."""

    causal = True
    units = Method.all_units
    pooling = "last"
    language_term = "next_token"

    def build(self) -> None:
        self.head = LanguageModelHead(self.encoder.dim, self.encoder.embedding)

    def loss(self, batch: TokenBatch) -> Loss:
        if batch.pair is not None:
            batch = concatenate([batch, batch.pair], self.tokenizer.pad_id)
        if batch.next_ids is None:
            raise UserError("CausalLM needs the next tokens of a batch: views that change the text have none")
        hidden = self.encoder(batch)
        return Loss({"next_token": Term(*self.head.loss(hidden.flatten(0, 1), batch.next_ids.flatten()))})

    def targets_per_byte(self, statistics: TextStatistics) -> float:
        return (statistics.tokens + statistics.documents) / statistics.bytes  # each document's end is predicted too

    def samples(self, texts: list[str]) -> list[dict[str, str]]:
        room = self.encoder.max_length // 2  # a byte is at most a token
        prompts = [" ".join(text.split()[:8]).encode()[: room - 1].decode(errors="ignore") for text in texts]
        continuations = self.generate(prompts, max_new_tokens=min(32, room), temperature=0.8, top_p=0.95, seed=0)
        return [{"prompt": p, "continuation": c} for p, c in zip(prompts, continuations, strict=True)]

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 64,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """Continue each prompt; the results do not repeat the prompts.

        Args:
            prompts: texts, also empty ones. All are continued in one batch.
            max_new_tokens: the longest continuation; a document that ends sooner is shorter.
            temperature: divides the logits; 0 takes the most probable token every time.
            top_k: sample from the k most probable tokens only.
            top_p: sample from the smallest set of tokens with at least this probability (arXiv:1904.09751).
            seed: makes the samples reproducible.
        """
        problems = [
            f"temperature {temperature} is negative" * (temperature < 0),
            f"top_k {top_k} is not positive" * (top_k is not None and top_k < 1),
            f"top_p {top_p} is not in (0, 1]" * (top_p is not None and not 0 < top_p <= 1),
            f"max_new_tokens {max_new_tokens} is not positive" * (max_new_tokens < 1),
        ]
        if any(problems):
            raise UserError("generate: " + ", ".join(filter(None, problems)))
        ends = -len(self.tokenizer.suffix) or None
        rows = [ids[:ends] for ids, _ in self.tokenizer.encode(list(prompts))]
        if not rows:
            return []
        longest = max(map(len, rows))
        if longest + max_new_tokens > self.encoder.max_length:
            raise UserError(
                f"a prompt of {longest} tokens and {max_new_tokens} new ones exceed the encoder's max_length of "
                f"{self.encoder.max_length}: shorten the prompt or ask for fewer"
            )
        training = self.training
        self.eval()
        generator = torch.Generator(self.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        new = self._continue(rows, longest, max_new_tokens, temperature, top_k, top_p, generator)
        self.train(training)
        end = self.tokenizer.end_id
        return [self.tokenizer.decode(row[: row.index(end)] if end in row else row) for row in new.tolist()]

    def _continue(
        self,
        rows: list[list[int]],
        longest: int,
        steps: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        generator: torch.Generator,
    ) -> Tensor:
        """(B, steps or fewer) new token ids; after its end token a row's ids mean nothing."""
        padding = [longest - len(row) for row in rows]  # on the left, so that all rows go on at the same column
        ids = torch.tensor(
            [[self.tokenizer.pad_id] * p + row for p, row in zip(padding, rows, strict=True)], device=self.device
        )
        segments = torch.tensor([[0] * p + [1] * (longest - p) for p in padding], device=self.device)
        cache = self.encoder.new_cache(len(rows), longest + steps)
        never = torch.tensor([i for i in self.tokenizer.special_ids if i != self.tokenizer.end_id], device=self.device)
        finished = torch.zeros(len(rows), dtype=torch.bool, device=self.device)
        new: list[Tensor] = []
        for _ in range(steps):
            hidden = self.encoder(TokenBatch(ids, segments, causal=True), cache)
            logits = self.head(hidden[:, -1]).float()
            logits[:, never.long()] = -torch.inf
            ids = sample(logits, temperature, top_k, top_p, generator).unsqueeze(1)
            segments = torch.ones_like(ids)
            new.append(ids)
            finished |= ids[:, 0] == self.tokenizer.end_id
            if finished.all():
                break
        return torch.cat(new, dim=1)


def sample(
    logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator | None
) -> Tensor:
    """Draw a token (B,) from logits (B, V), restricted to the `top_k` and the nucleus of `top_p`."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        kth = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if top_p is not None:
        ordered, index = logits.sort(dim=-1, descending=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        ordered = ordered.masked_fill(before >= top_p, -torch.inf)
        logits = torch.full_like(logits, -torch.inf).scatter(-1, index, ordered)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).squeeze(-1)
