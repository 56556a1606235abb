"""Words in the gap of a prompt: likelihoods by hand, tokens at borders, and what is cut."""

import math

import pytest
import torch

from ssl_nlp.data import TokenBatch, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.evaluation.capabilities import WordScorer, lacks
from ssl_nlp.methods import CausalLM, MaskedDiffusion, MaskedLM, SimCLR
from ssl_nlp.methods.prompts import fill
from ssl_nlp.objectives.scores import Prompt, Unable
from tests.corpus import ListCorpus, random_texts

CHINESE = ["这部电影很好看", "这部电影不好看", "好看的电影很多", "不好的电影不多", "电影院里人很多"]
CORPUS = ListCorpus([*random_texts(60), *CHINESE * 12])
KINDS = ("bpe", "wordpiece", "unigram", "char")
TOKENIZERS = {kind: get_tokenizer(TokenizerSettings(kind=kind, vocab_size=400), CORPUS) for kind in KINDS}
PROMPTS = [
    Prompt((), "the dog sees ", "", ("the cat", "a birdie", "it")),
    Prompt(("the cat likes a bird\n", "a dog hears the house\n"), "the big red ", " .", ("dog", "tree", "zebra")),
]


def connected(kind, tokenizer, length=64):
    method = kind(Transformer(size=None, dim=16, layers=2, heads=2, max_length=length, dropout=0.1))
    torch.manual_seed(0)
    method.connect(tokenizer)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return method


@torch.no_grad()
def log_probabilities(method, ids, place):
    """(V,) at one place of one row, computed alone."""
    batch = TokenBatch(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long), causal=method.causal)
    return method.head(method.states(batch)[0, place]).double().log_softmax(dim=-1)


def plain(tokenizer, text):
    [(ids, _)] = tokenizer.encode([text])
    return ids


@pytest.mark.parametrize("kind", KINDS)
def test_a_continuation_has_the_probability_of_its_tokens_one_after_the_other(kind):
    """As lm-eval counts it: the tokens of the whole text, without those of the context alone."""
    tokenizer = TOKENIZERS[kind]
    method = connected(CausalLM, tokenizer).eval()
    found = method.train().score_words(PROMPTS, batch_size=3)
    assert method.training
    method.eval()
    for number, prompt in enumerate(PROMPTS):
        context = "".join(prompt.examples) + prompt.before
        for place, word in enumerate(prompt.words):
            whole = plain(tokenizer, context + word + prompt.after)
            border = len(plain(tokenizer, context if kind == "char" else context.rstrip()))
            nats = sum(float(log_probabilities(method, whole[:t], t - 1)[whole[t]]) for t in range(border, len(whole)))
            assert float(found.nats[number, place]) == pytest.approx(nats, rel=1e-4)
            assert int(found.tokens[number, place]) == len(whole) - border
            assert int(found.bytes[number, place]) == len((word + prompt.after).encode())
    assert found.kind == "likelihood"
    assert not found.examples_cut.any() and not found.tokens_cut.any()


@pytest.mark.parametrize("model", [MaskedLM, MaskedDiffusion])
@pytest.mark.parametrize("kind", KINDS)
def test_the_tokens_of_a_word_at_masks_are_filled_from_left_to_right(kind, model):
    tokenizer = TOKENIZERS[kind]
    method = connected(model, tokenizer).eval()
    found = method.score_words(PROMPTS, batch_size=3)
    assert found.kind == "pseudo-likelihood"
    for number, prompt in enumerate(PROMPTS):
        context = "".join(prompt.examples) + prompt.before
        for place, word in enumerate(prompt.words):
            before = len(plain(tokenizer, context if kind == "char" else context.rstrip()))
            whole = plain(tokenizer, context + word + prompt.after)
            stop = len(plain(tokenizer, context + word)) if prompt.after else len(whole)
            nats = 0.0
            for t in range(before, stop):
                masked = [*whole[:t], *[tokenizer.mask_id] * (stop - t), *whole[stop:]]
                nats += float(log_probabilities(method, masked, t)[whole[t]])
            assert float(found.nats[number, place]) == pytest.approx(nats, rel=1e-4)
            assert int(found.tokens[number, place]) == stop - before
            assert int(found.bytes[number, place]) == len(word.encode())


def test_words_of_one_token_are_parts_of_one_distribution():
    tokenizer = TOKENIZERS["char"]
    letters = [tokenizer.token(i) for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids]
    words = tuple(letter for letter in letters if letter.strip())
    for kind in (CausalLM, MaskedLM):
        method = connected(kind, tokenizer).eval()
        found = method.score_words([Prompt((), "the do", "", words)])
        row = plain(tokenizer, "the do") + ([] if kind is CausalLM else [tokenizer.mask_id])
        rows = log_probabilities(method, row, len(row) - 1)
        rest = sum(float(rows[i].exp()) for i in range(len(rows)) if i < tokenizer.vocab_size and
                   tokenizer.token(i) not in words)  # fmt: skip
        assert float(found.nats.exp().sum()) + rest == pytest.approx(1, abs=1e-4)


def test_all_words_are_conditioned_on_the_same_tokens_where_a_token_spans_the_border():
    """Chinese has no blanks: 很 and 好 become one token, so that 很 is scored with both words."""
    tokenizer = TOKENIZERS["bpe"]
    prompt = Prompt((), "这部电影很", "", ("好看", "多"))
    alone = plain(tokenizer, prompt.before)
    wholes = [plain(tokenizer, prompt.before + word) for word in prompt.words]
    assert any(whole[: len(alone)] != alone for whole in wholes)  # the border is inside a token
    filled = fill(tokenizer, prompt, 64, causal=True)
    assert filled.rows == wholes
    assert wholes[0][: filled.start] == wholes[1][: filled.start]
    assert wholes[0][filled.start] != wholes[1][filled.start]
    method = connected(CausalLM, tokenizer).eval()
    found = method.score_words([prompt])
    for place, whole in enumerate(wholes):
        chain = range(filled.start, len(whole))
        nats = sum(float(log_probabilities(method, whole[:t], t - 1)[whole[t]]) for t in chain)
        assert float(found.nats[0, place]) == pytest.approx(nats, rel=1e-4)


@pytest.mark.parametrize("causal", [True, False])
def test_examples_are_cut_before_the_prompt_and_the_last_ones_stay(causal):
    tokenizer = TOKENIZERS["char"]
    prompt = Prompt(tuple(f"{letter * 9}\n" for letter in "abcd"), "the dog ", "", ("sees", "hears"))
    own = 1 + len("the dog hears")
    for kept, longest in ((4, own + 40), (3, own + 39), (1, own + 10), (0, own + 9), (0, own)):
        filled = fill(tokenizer, prompt, longest - causal, causal)
        expected = "".join(prompt.examples[4 - kept :]) + "the dog hears"
        assert filled.rows[1] == plain(tokenizer, expected)
        assert (filled.examples_cut, filled.tokens_cut) == (4 - kept, 0)
    filled = fill(tokenizer, prompt, own - 3 - causal, causal)
    assert [tokenizer.decode(row) for row in filled.rows] == [" dog sees", " dog hears"]
    assert all(row[:1] == tokenizer.prefix for row in filled.rows)
    assert (filled.examples_cut, filled.tokens_cut, filled.start) == (4, 3, 1 + len(" dog "))
    with pytest.raises(Unable, match="has no room for the label words"):
        fill(tokenizer, prompt, 4, causal)
    behind = Prompt((), "a ", " the tree", ("dog", "bird"))  # the longer side is cut
    filled = fill(tokenizer, behind, 1 + len("a bird the") - causal, causal)
    assert tokenizer.decode(filled.rows[1]) == "a bird the"


def test_words_that_the_tokenizer_cannot_write_are_a_reason_and_not_a_number():
    tokenizer = TOKENIZERS["wordpiece"]
    method = connected(CausalLM, tokenizer)
    with pytest.raises(Unable, match="writes the label words '龘' and '鱻' with the same tokens"):
        method.score_words([Prompt((), "the dog ", "", ("龘", "鱻"))])
    with pytest.raises(Unable, match="has no token for the label word"):
        method.score_words([Prompt((), "the dog ", "", ("sees", "\u200b"))])


def test_words_of_one_token_share_a_row(monkeypatch):
    tokenizer = TOKENIZERS["char"]
    method = connected(CausalLM, tokenizer)
    rows = []
    monkeypatch.setattr(method, "states", lambda batch, states=method.states: rows.append(len(batch)) or states(batch))
    found = method.score_words([Prompt((), "the do", "", ("g", "t", "e")), Prompt((), "a ca", "", ("t", "p", "b"))])
    assert rows == [2]
    assert found.nats.shape == (2, 3) and math.isfinite(float(found.nats.sum()))


def test_only_language_models_rank_words():
    assert lacks(CausalLM(None), WordScorer) is lacks(MaskedLM(None), WordScorer) is None
    assert lacks(SimCLR(None), WordScorer) == "SimCLR ranks no words in a text"
