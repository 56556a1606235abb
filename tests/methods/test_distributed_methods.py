"""Every method, and a task, in two processes that talk over gloo, spawned once for all of them.

A method is added by a line of `CASES`. Those that draw at random stand there twice: as they are, and, for the comparison
with one process, with draws that depend on the place of a token in its document alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssl_nlp.data import TokenBatch, Tokenizer
from ssl_nlp.data.cooccurrences import CountedPairs
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import BagOfWords, Encoder, Recurrent, Transformer
from ssl_nlp.methods import (
    ARAE,
    CBOW,
    VAE,
    Autoencoder,
    BidirectionalLM,
    CausalLM,
    CausalMaskedLM,
    GloVe,
    MaskedDiffusion,
    MaskedLM,
    MoCo,
    MultiObjective,
    Optimization,
    Projection,
    ReplacedToken,
    SimCLR,
    SkipGram,
    SpanCorruption,
    TextInfilling,
)
from ssl_nlp.methods.language_models import causal_masked_lm
from ssl_nlp.methods.language_models.denoising import Denoising
from ssl_nlp.methods.word_vectors.windowed import SHARED, Windowed
from ssl_nlp.objectives.infilling import Noise
from ssl_nlp.objectives.masked_diffusion import Hidden, Weighting
from ssl_nlp.objectives.masking import mask_tokens
from ssl_nlp.objectives.views import Delete
from ssl_nlp.tasks import SequenceToSequence
from ssl_nlp.training.module import Module
from ssl_nlp.training.ranks import sum_over_ranks
from tests.corpus import ListCorpus, random_texts

pytestmark = pytest.mark.slow

RANKS = 2
ROWS = [8, 7]  # of all ranks together, in each of the steps


TRANSFORMER = partial(Transformer, None, dim=16, layers=1, heads=2, max_length=64)


@dataclass
class Case:
    """A method to train on `ROWS`.

    `exact` says that it draws nothing at random in the batches that it gets, so that two processes must do what one does.
    `given` puts given draws in place of random ones: as methods of the connected module, and for the time of the training.
    """

    method: Callable[[], Module]
    unit: str = "sentence"
    exact: bool = False
    dropout: float = 0.0
    freeze: Literal["embeddings"] | None = None
    encoder: Callable[..., Encoder] = TRANSFORMER
    given: Callable[[Any, pytest.MonkeyPatch], None] | None = None


DRAWN = torch.rand(max(ROWS), 128, generator=torch.Generator().manual_seed(0))


def numbers(batch: TokenBatch, columns: int) -> Tensor:
    """(B, columns): given numbers between 0 and 1 for the places in documents, the same in whatever batch they are."""
    assert batch.documents is not None
    return DRAWN[batch.documents, :columns]


def given_sides(method: CausalMaskedLM, patch: pytest.MonkeyPatch) -> None:
    """The causal rows, 4 of 7 in a step, of which one process has 2 of 4 and the other 2 of 3; and the masked tokens."""
    sides = method._sides

    def given(batch: TokenBatch) -> dict[str, TokenBatch]:
        causal = torch.isin(batch.documents, torch.tensor([0, 1, 3, 6]))
        with pytest.MonkeyPatch.context() as order:
            order.setattr(torch, "randperm", lambda number, device: (~causal).long().argsort(stable=True))
            return sides(batch)

    def choose(batch: TokenBatch) -> tuple[Tensor, Tensor]:
        chosen = (numbers(batch, batch.input_ids.shape[1]) < 0.4) & batch.is_text & method.maskable[batch.input_ids]
        return torch.arange(chosen.numel()), chosen.flatten()

    method._sides, method._choose = given, choose
    patch.setattr(causal_masked_lm, "mask_tokens", partial(mask_tokens, probabilities=(1.0, 0.0, 0.0)))


def given_masks(method: MaskedDiffusion, patch: pytest.MonkeyPatch) -> None:
    def hide(batch: TokenBatch, draws: int, weighting: Weighting = "bound", most: float = 1.0) -> list[Hidden]:
        content = method._content(batch)
        hidden = content & (numbers(batch, content.shape[1]) < 0.5)
        lengths = content.sum(dim=1, keepdim=True)
        divisor = hidden.sum(dim=1, keepdim=True).clamp(min=1) if weighting == "bound" else (lengths + 1) / 2
        weights = lengths / divisor
        return [Hidden(hidden, torch.where(hidden, weights, 0.0))] * draws

    method._hide = hide


def given_spans(method: Denoising, patch: pytest.MonkeyPatch) -> None:
    corrupt = method.corrupt

    def given(batch: TokenBatch, noise: Noise) -> tuple[TokenBatch, TokenBatch]:
        def rand(rows: int, columns: int, device: torch.device) -> Tensor:
            """For each place in a row; or, where there are not so many rows, several for each text."""
            return numbers(batch, columns) if rows == len(batch) else numbers(batch, rows).T

        with pytest.MonkeyPatch.context() as draws:
            draws.setattr(torch, "rand", rand)
            return corrupt(batch, noise)

    method.corrupt = given


def given_negatives(method: Windowed, patch: pytest.MonkeyPatch) -> None:
    """The same in every block: blocks go over rows, so that other words are in those of two processes."""
    words = method.maskable.nonzero().flatten()[:SHARED]
    method.draw_negatives = lambda blocks: words.expand(blocks, -1)


HEAD = Projection(depth=2, width=12)
WORDS = partial(BagOfWords, dim=16)
ROWS_ONLY = Optimization("torch.optim.SGD")  # whose gradients are sparse
CASES = {
    "causal_lm": Case(CausalLM, exact=True),
    "causal_lm_frozen": Case(CausalLM, exact=True, freeze="embeddings"),  # which its output layer shares
    "causal_masked_lm": Case(CausalMaskedLM),
    "causal_masked_lm_given": Case(CausalMaskedLM, exact=True, given=given_sides),
    "masked_diffusion": Case(MaskedDiffusion),
    "masked_diffusion_given": Case(MaskedDiffusion, exact=True, given=given_masks),
    "bidirectional_lm": Case(
        BidirectionalLM, exact=True, encoder=partial(Recurrent, separate=True, dim=16, max_length=64)
    ),
    "masked_lm": Case(MaskedLM),
    "simclr": Case(lambda: SimCLR(projection=HEAD), dropout=0.1),
    "simclr_pairs": Case(lambda: SimCLR(views=[], learn_temperature=True, projection=HEAD), unit="pair", exact=True),
    "simclr_pairs_chunks": Case(lambda: SimCLR(views=[], chunk=3, decoupled=True), unit="pair", exact=True),
    "masked_lm_next": Case(lambda: MaskedLM(sentence_pairs="next"), unit="pair"),
    "masked_lm_order": Case(lambda: MaskedLM(sentence_pairs="order"), unit="pair"),
    "replaced_token": Case(ReplacedToken),
    "span_corruption": Case(SpanCorruption),
    "span_corruption_given": Case(SpanCorruption, exact=True, given=given_spans),
    "text_infilling": Case(lambda: TextInfilling(tied_embeddings=False)),
    "text_infilling_given": Case(TextInfilling, exact=True, given=given_spans),
    "autoencoder": Case(lambda: Autoencoder(latent_dim=8), exact=True),
    "tsdae": Case(lambda: Autoencoder(noise=[Delete(0.6)], tied_embeddings=True)),
    "vae": Case(lambda: VAE(word_dropout=0.2)),
    "arae": Case(ARAE),
    "multi_objective": Case(lambda: MultiObjective(objectives=[CausalLM(), MoCo(queue=16)]), dropout=0.1),
    "multi_objective_pairs": Case(
        lambda: MultiObjective(objectives=[CausalLM(), SimCLR(views=[])], weights=[1.0, 0.5]), unit="pair", exact=True
    ),
    "encoder_decoder": Case(lambda: SequenceToSequence(decoder_layers=1, dropout=0.0), unit="pair", exact=True),
    "decoder_only": Case(lambda: SequenceToSequence(form="decoder_only"), unit="pair", exact=True),
    "moco": Case(lambda: MoCo(queue=16), dropout=0.1),
    "skip_gram": Case(lambda: SkipGram(optimization=ROWS_ONLY), encoder=WORDS),
    "skip_gram_given": Case(
        lambda: SkipGram(window=1, subsample=0, optimization=ROWS_ONLY),
        exact=True,
        encoder=WORDS,
        given=given_negatives,
    ),
    "cbow_given": Case(
        lambda: CBOW(window=1, subsample=0, optimization=ROWS_ONLY), exact=True, encoder=WORDS, given=given_negatives
    ),
    "skip_gram_paths": Case(
        lambda: SkipGram(window=1, subsample=0, output="hierarchical_softmax", optimization=ROWS_ONLY),
        exact=True,
        encoder=partial(WORDS, ngrams=(3, 4), buckets=50),
    ),
    "cbow_paths": Case(
        lambda: CBOW(window=1, subsample=0, output="hierarchical_softmax", optimization=ROWS_ONLY),
        exact=True,
        encoder=WORDS,
    ),
    "glove": Case(lambda: GloVe(optimization=ROWS_ONLY), unit="cooccurrence", exact=True, encoder=WORDS),
    "moco_pairs": Case(lambda: MoCo(views=[], queue=16, momentum=0.5, temperature=0.5), unit="pair", exact=True),
}


class Step(nn.Module):
    """What `Method.training_step` makes of a batch, as the forward pass that DDP wants."""

    def __init__(self, method: Module) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: TokenBatch) -> Tensor:
        loss = self.method.loss(batch)
        targets = {name: sum_over_ranks(term.targets.long()) for name, term in loss.terms.items()}
        return loss.over(targets) * (dist.get_world_size() if dist.is_initialized() else 1)


def batches(tokenizer: Tokenizer, unit: str, rank: int, ranks: int) -> list[TokenBatch]:
    """This rank's share of each global batch, dealt as the sampler does it. Two sentences are equal."""
    found = []
    for step, rows in enumerate(ROWS):
        if unit == "cooccurrence":
            found.append(entries(tokenizer, rows, seed=step, mine=slice(rank, None, ranks)))
            continue
        texts = [random_texts(rows, seed=10 * step + side, longest=12) for side in (0, 1)]
        texts[0][-1] = texts[0][0]
        ids = [[ids for ids, _ in tokenizer.encode(side)][rank::ranks] for side in texts]
        first, second = (pad_rows(side, None, tokenizer, 64) for side in ids)
        first = replace(first, documents=torch.arange(rows)[rank::ranks])
        found.append(replace(first, pair=second) if unit == "pair" else first)
    return found


def entries(tokenizer: Tokenizer, rows: int, seed: int, mine: slice) -> CountedPairs:
    """Some of the rows of a batch of made-up co-occurrences."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(len(tokenizer.special_ids), tokenizer.vocab_size, (rows, 2), generator=generator)[mine]
    counts = (0.1 + 5 * torch.rand(rows, generator=generator))[mine]
    return CountedPairs(ids, torch.ones_like(ids), packed=False, padded=False, counts=counts, total=30.0)


def train(case: Case, tokenizer: Tokenizer, rank: int, ranks: int) -> dict[str, Tensor]:
    """Loss and gradients of each step, and the state after the last one."""
    torch.manual_seed(0)
    method = case.method()
    method.encoder = case.encoder(dropout=case.dropout, freeze=case.freeze)
    method.connect(tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        if case.given is not None:
            case.given(method, patch)
        return recorded(case, method, tokenizer, rank, ranks)


def recorded(case: Case, method: Module, tokenizer: Tokenizer, rank: int, ranks: int) -> dict[str, Tensor]:
    step = Step(method)
    module = DistributedDataParallel(step) if ranks > 1 else step
    optimizer = torch.optim.SGD(method.parameters(), 0.1)  # AdamW would blow up rounding
    record: dict[str, Tensor] = {}
    for number, batch in enumerate(batches(tokenizer, case.unit, rank, ranks)):
        torch.manual_seed(100 * number + rank)
        optimizer.zero_grad()
        loss = module(batch)
        loss.backward()
        record[f"loss {number}"] = loss.detach()
        for name, parameter in method.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"{name} has no gradient"
                record[f"gradient {number} {name}"] = parameter.grad.to_dense().clone()
        optimizer.step()
        method.after_step()
    return record | {f"state {name}": value for name, value in method.state_dict().items()}


def work(rank: int, folder: str, serialized: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    tokenizer = Tokenizer(serialized)
    torch.save({name: train(case, tokenizer, rank, RANKS) for name, case in CASES.items()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320, sentinels=4), ListCorpus(random_texts(60)))


@pytest.fixture(scope="module")
def ranks(tokenizer, tmp_path_factory) -> list[dict[str, dict[str, Tensor]]]:
    """What each of two processes saw, by method."""
    folder: Path = tmp_path_factory.mktemp("ranks")
    mp.spawn(work, (str(folder), tokenizer.serialize()), nprocs=RANKS)
    return [torch.load(folder / f"{rank}.pt") for rank in range(RANKS)]


@pytest.mark.parametrize("name", CASES)
def test_ranks_stay_equal(name, ranks):
    """Weights and buffers, the queue of MoCo among them, are the same on both ranks after training."""
    first, second = (record[name] for record in ranks)
    assert first.keys() == second.keys()
    for key, value in first.items():
        if not key.startswith("loss"):
            assert torch.equal(value, second[key]), key
            assert value.isfinite().all(), key


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.exact])
def test_two_processes_equal_one_that_has_all(name, ranks, tokenizer):
    """Losses, gradients and weights, also where the ranks have unequal numbers of rows."""
    alone = train(CASES[name], tokenizer, 0, 1)
    for number in range(len(ROWS)):
        key = f"loss {number}"
        torch.testing.assert_close((ranks[0][name][key] + ranks[1][name][key]) / 2, alone[key], atol=1e-5, rtol=0)
    for key, value in ranks[0][name].items():
        if key.startswith("gradient") or (key.startswith("state") and "queue" not in key):
            torch.testing.assert_close(value, alone[key], atol=1e-5, rtol=0, msg=lambda text, key=key: f"{key}: {text}")
    assert any(value.abs().max() > 1e-3 for key, value in alone.items() if key.startswith("gradient 1"))


def test_the_queue_holds_the_keys_of_all_ranks_in_the_order_of_the_ranks(ranks, tokenizer):
    """15 rows of the two steps are in the queue of 16; one process has them in the order of the batch."""
    together, alone = ranks[0]["moco_pairs"], train(CASES["moco_pairs"], tokenizer, 0, 1)
    order, start = [], 0
    for rows in ROWS:
        order += [start + row for rank in range(RANKS) for row in range(rows)[rank::RANKS]]
        start += rows
    assert int(together["state queue_end"]) == start == 15
    assert torch.equal(together["state queue_ids"][:15], alone["state queue_ids"][order])
    torch.testing.assert_close(together["state queue"][:15], alone["state queue"][order], atol=1e-5, rtol=0)
    assert not together["state queue"][15:].any()
