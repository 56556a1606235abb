"""Our causal language models as models of `lm-eval`, the Language Model Evaluation Harness: `pip install lm-eval`.

import lm_eval
from ssl_nlp.evaluation.lm_eval import LmEvalModel
from ssl_nlp.methods import CausalLM

model = LmEvalModel(CausalLM.load_from_checkpoint("runs/mine/checkpoints/last.ckpt"))
lm_eval.simple_evaluate(model=model, tasks=["lambada_openai"])
"""

from dataclasses import replace
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor

from ssl_nlp.data import TokenBatch
from ssl_nlp.data.units import pad_rows
from ssl_nlp.modules.generation import Continuation, continue_rows, texts_of
from ssl_nlp.modules.sampling import Sampling

NEW_TOKENS = 256
"""Tokens of a continuation, unless the task says otherwise: those of lm-eval."""


class LmEvalModel(TemplateLM):
    """A causal language model with the interface of `lm_eval.api.model.LM`.

    Contexts begin with the frame that the model has seen at the beginning of every text, such as `<s>`, and have no end.
    Where a context and its continuation are too long, the beginning of the context is left out.

    Args:
        model: a causal language model in evaluation mode, such as `CausalLM`, with `tokenizer`, `encoder` and `head`.
        batch_size: rows at a time.
    """

    def __init__(self, model: Any, batch_size: int = 16) -> None:
        super().__init__()
        self._model, self._batch = model, batch_size

    @property
    def eot_token_id(self) -> int:
        end: int = self._model.tokenizer.end_id
        return end

    @property
    def prefix_token_id(self) -> int:
        prefix = self._model.tokenizer.prefix
        first: int = prefix[0] if prefix else self.eot_token_id
        return first

    @property
    def tokenizer_name(self) -> str:
        """The name under which lm-eval caches requests: a key of the tokenizer."""
        return str(self._model.tokenizer.fingerprint())

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        """The tokens of a text, after the prefix unless `add_special_tokens` is False; without the suffix."""
        tokenizer = self._model.tokenizer
        ids: list[int] = tokenizer.encode([string])[0][0]
        begin = len(tokenizer.prefix) if add_special_tokens is False else 0
        return ids[begin : len(ids) - len(tokenizer.suffix)]

    @torch.no_grad()
    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """The log-likelihood in nats of each continuation after its context, and whether it is the greedy one."""
        longest = self._model.encoder.max_length + 1  # the last token is not read
        rows = [(context + continuation)[-longest:] for _, context, continuation in requests]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        found: list[tuple[float, bool]] = [(0.0, False)] * len(rows)
        for start in range(0, len(order), self._batch):
            some = order[start : start + self._batch]
            states = self._states([rows[i][:-1] for i in some])
            for i, row in zip(some, states, strict=True):
                wanted = torch.tensor(requests[i][2], device=row.device)
                end = len(rows[i]) - 1
                logits = self._model.head(row[end - len(wanted) : end]).float()
                nats = logits.log_softmax(dim=-1).gather(1, wanted[:, None]).sum()
                found[i] = float(nats), bool((logits.argmax(dim=-1) == wanted).all())
        return found

    def _states(self, rows: list[list[int]]) -> Tensor:
        model = self._model
        batch: TokenBatch = pad_rows(rows, None, model.tokenizer, model.encoder.max_length)
        states: Tensor = model.encoder(replace(batch.to(model.device), causal=True))
        return states

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood in nats of each text, read in windows as long as the model can see.

        The first token is predicted from the prefix, which itself is not predicted.
        """
        sums = []
        for request in requests:
            tokens = self.tok_encode(request.args[0], add_special_tokens=False)
            windows = get_rolling_token_windows(tokens, self.prefix_token_id, self._model.encoder.max_length, 1)
            parts = [("", *make_disjoint_window(window)) for window in windows]
            sums.append(sum(nats for nats, _ in self._loglikelihood_tokens(parts)))
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The continuation of each context up to the first string of `until`; greedy unless the task samples."""
        model, texts = self._model, []
        for request in requests:
            context, settings = request.args
            until = settings.get("until") or []
            steps = int(settings.get("max_gen_toks", NEW_TOKENS))
            steps = min(steps, model.encoder.max_length - 1)
            temperature = float(settings.get("temperature", 0.0)) if settings.get("do_sample") else 0.0
            row = self.tok_encode(context)[-(model.encoder.max_length - steps) :]
            begun = Continuation(model.encoder, model.head, model.tokenizer, [row], steps)
            new = continue_rows(begun, steps, Sampling(model.device, temperature, seed=0))
            [text] = texts_of(model.tokenizer, new)
            for stop in [until] if isinstance(until, str) else until:
                text = text.split(stop)[0] if stop else text
            texts.append(text)
        return texts
