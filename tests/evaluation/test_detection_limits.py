"""The limit of replaced-token detection is compared with sums over all texts, masks and draws of a real generator."""

from itertools import product
from math import log

import numpy as np
import pytest
import torch

from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Transformer
from ssl_nlp.evaluation.limits import Limits
from ssl_nlp.methods import ReplacedToken
from ssl_nlp.objectives.predictions import Detections
from tests.evaluation.small_language import LANGUAGE, likelihood, tokenizer_of

LIMITS = Limits(LANGUAGE, tokenizer_of(LANGUAGE))
START, MASK = LIMITS.tokenizer.prefix[0], LIMITS.tokenizer.mask_id
TOKENS = [ids[1] for ids, _ in LIMITS.tokenizer.encode(LANGUAGE.words)]
RATE, SIZE = 0.3, 3
TEXTS = list(product(range(4), repeat=SIZE))
MASKS = list(product([False, True], repeat=SIZE))


@pytest.fixture(scope="module")
def method() -> ReplacedToken:
    torch.manual_seed(0)
    method = ReplacedToken(Transformer(size=None, dim=8, layers=1, heads=1, max_length=16), generator_size=1.0)
    method.connect(LIMITS.tokenizer)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return method.double().eval()


def hide(words, masks) -> list[int]:
    return [START, *(MASK if hidden else TOKENS[word] for word, hidden in zip(words, masks, strict=True))]


def joint_of(method) -> dict[tuple, float]:
    """The probability of each text with its masks and what the generator draws there."""
    joint: dict[tuple, float] = {}
    rows = list(product(TEXTS, MASKS))
    with torch.no_grad():
        states = method.generator(pad_rows([hide(*row) for row in rows], None, LIMITS.tokenizer, 16))[:, 1:]
        probabilities = method.generator_head(states)[:, :, TOKENS].softmax(dim=-1).tolist()
    for (text, masks), drawn in zip(rows, probabilities, strict=True):
        chosen = [place for place in range(SIZE) if masks[place]]
        prior = likelihood(LANGUAGE, text) * RATE ** len(chosen) * (1 - RATE) ** (SIZE - len(chosen))
        for words in product(range(4), repeat=len(chosen)):
            read = list(text)
            for place, word in zip(chosen, words, strict=True):
                read[place] = word
            share = np.prod([drawn[place][read[place]] for place in chosen])
            joint[text, masks, tuple(read)] = prior * float(share)
    return joint


def losses(joint, known) -> dict[tuple, tuple[float, float]]:
    """The probabilities that a token stayed and was replaced, with what is known: a function of masks, draws and place."""
    found: dict[tuple, list[float]] = {}
    for (text, masks, read), share in joint.items():
        for place in range(SIZE):
            entry = found.setdefault((known(masks, read, place), place), [0.0, 0.0])
            entry[text[place] != read[place]] += share
    return {key: (kept, gone) for key, (kept, gone) in found.items()}


def entropy(found) -> float:
    return -sum(p * log(p / sum(pair)) for pair in found.values() for p in pair if p > 0)


def all_but(masks, read, place):
    return masks[:place] + masks[place + 1 :], read


def detections(method, rows, replaced) -> Detections:
    """Every token of rows of masks and drawn words."""
    masked = pad_rows([hide(read, masks) for masks, read in rows], None, LIMITS.tokenizer, 16)
    drawn = torch.tensor([[START, *(TOKENS[word] for word in read)] for _, read in rows])
    examined = torch.arange(1, SIZE + 1).expand(len(rows), -1)
    with torch.no_grad():
        odds = method._odds(masked, drawn, examined)
    tokens = torch.full((len(rows),), SIZE)
    return Detections(masked, drawn, replaced, examined, odds, RATE, tokens, torch.zeros(len(rows)))


def test_the_limit_is_the_loss_of_who_knows_all_masks_but_one(method):
    joint = joint_of(method)
    assert sum(joint.values()) == pytest.approx(1, abs=1e-12)
    known = losses(joint, all_but)
    rows = list(product(MASKS, TEXTS))
    gone = torch.from_numpy(np.random.default_rng(0).random((len(rows), SIZE + 1)) < 0.5)
    limits, unigrams = LIMITS.nats(detections(method, rows, gone))
    for number, (masks, read) in enumerate(rows):
        expected = 0.0
        for place in range(SIZE):
            kept_and_gone = known[all_but(masks, read, place), place]
            expected -= log(kept_and_gone[int(gone[number, place + 1])] / sum(kept_and_gone))
        assert float(limits[number]) == pytest.approx(expected, abs=1e-10)
    share = float(gone.sum()) / (SIZE * len(rows))
    replaced = gone[:, 1:].sum(dim=1).double()
    base = -replaced * log(share) - (SIZE - replaced) * log(1 - share)
    np.testing.assert_allclose(unigrams.numpy(), base.numpy(), atol=1e-10)

    # No detector can do better than the exact posterior, which knows less; and knowing all masks would be a looser limit.
    exact = entropy(losses(joint, lambda masks, read, place: read))
    assert entropy(losses(joint, lambda *facts: facts[:2])) + 0.05 < entropy(known) < exact - 0.002


def test_the_loss_is_explained_with_the_draws_of_a_validation_and_frames_cost_nothing(method):
    texts = [" ".join(LANGUAGE.words[word] for word in text) for text in (*TEXTS, (1, 0, 3, 3, 2))]
    batch = pad_rows([ids for ids, _ in LIMITS.tokenizer.encode(texts)], None, LIMITS.tokenizer, 16)
    torch.manual_seed(3)
    _, drawn, replaced, _, _ = method._corrupt(batch)
    torch.manual_seed(3)
    total = float(method.loss(batch).terms["discriminator"].total.detach())
    torch.manual_seed(3)
    found = method.explain_loss(batch)
    assert torch.equal(found.drawn, drawn) and torch.equal(found.replaced, replaced)
    assert found.number.tolist() == [4] * len(TEXTS) + [6]
    assert bool((found.examined < found.number[:, None]).all())
    assert float(found.nats.sum()) == pytest.approx(total, rel=0.1)  # some tokens stand for all
    frames = found.examined == 0
    assert torch.equal(torch.isneginf(found.odds), frames) and frames.any()
    only = torch.zeros_like(found.examined)
    alone = Detections(**(vars(found) | {"examined": only, "odds": torch.full_like(found.odds, -torch.inf)}))
    assert LIMITS.nats(alone)[0].tolist() == [0.0] * len(batch)
