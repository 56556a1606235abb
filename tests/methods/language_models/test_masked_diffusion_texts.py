"""What a masked diffusion writes: texts from its own distribution, and what is missing in given ones."""

import itertools
import math

import pytest
import torch

from ssl_nlp.data import Tokenizer
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedDiffusion, Ramp
from ssl_nlp.modules.sampling import Sampling
from ssl_nlp.objectives.lengths import length_log_probabilities
from tests.methods.language_models.small_diffusion import (
    CORPUS,
    LONGEST,
    connected,
    content,
    of_letters,
    order_losses,
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


def test_texts_are_drawn_from_the_distribution_that_is_bounded():
    method = of_letters()
    unknown = method.tokenizer.special_ids[-1]
    with torch.no_grad():
        method.head.bias[unknown] = -100.0  # which texts of letters do not hold
    log_q, log_at_least = length_log_probabilities(method.length_counts, torch.tensor(0))
    names = {i: method.tokenizer.token(i) for i in content(method)[-3:]}
    expected = {"": math.exp(log_q[0])}
    for length, log_p in ((1, log_q[1]), (2, log_at_least[2])):
        for tokens in itertools.product(names, repeat=length):
            losses = order_losses(method, tokens)
            p = math.exp(log_p) * sum(math.exp(-loss) for loss in losses) / len(losses)
            expected["".join(names[i] for i in tokens)] = p
    assert sum(expected.values()) == pytest.approx(1, abs=1e-4)
    texts = method.draw(4000, max_new_tokens=2, seed=0)
    distance = sum(abs(texts.count(text) / 4000 - p) for text, p in expected.items()) / 2
    assert distance < 0.03
    assert set(texts) <= set(expected)
    assert max(map(len, method.draw(50, max_new_tokens=1000, seed=0))) == LONGEST  # the encoder has room for no more


def test_only_a_text_that_is_not_cut_off_has_a_closing_token(tokenizer, monkeypatch):
    framed = Tokenizer(tokenizer.serialize().replace('"prefix": [2], "suffix": []', '"prefix": [2], "suffix": [2]'))
    method, written = connected(framed), []
    monkeypatch.setattr(method, "_write", lambda rows, *more: written.extend(rows) or rows)
    method.length_counts[[4, 8, 9]] = 10**6
    method.draw(60, 8, seed=0)
    rows = [[2, *[framed.mask_id] * 4, 2], [2, *[framed.mask_id] * 8, 2], [2, *[framed.mask_id] * 8]]
    assert all(10 < written.count(row) < 30 for row in rows) and all(row in rows for row in written)


def test_fewer_steps_are_fewer_passes_and_leave_no_mask(tokenizer):
    method, passes = connected(tokenizer), []
    method.encoder.register_forward_hook(lambda _, arguments, __: passes.append(len(arguments[0])))
    rows = [[*tokenizer.prefix, *[tokenizer.mask_id] * n] for n in (9, 4, 0)]
    for steps, expected in ((None, [2] * 4 + [1] * 5), (3, [2] * 3), (1, [2])):
        passes.clear()
        written = method._write(rows, Sampling(method.device, seed=0), steps)
        assert passes == expected
        assert [len(row) for row in written] == [len(row) for row in rows]
        assert not any(set(tokenizer.special_ids) & set(row[1:]) for row in written)


def test_infilling_keeps_what_is_given(tokenizer):
    method = connected(tokenizer).train()
    state = torch.get_rng_state()
    texts = ["the dog [MASK][MASK][MASK] the cat", "[MASK] bird"]
    first, second = method.infill(texts, seed=1)
    assert first.startswith("the dog") and first.endswith(" the cat") and len(first) > len("the dog the cat")
    assert second.endswith(" bird") and "[MASK]" not in second
    assert method.infill(texts, seed=1) == [first, second]
    assert method.infill(texts, seed=2)[0] != first
    assert method.infill([]) == method.draw(0, 8) == []
    assert method.draw(3, 8, seed=1) == method.draw(3, 8, seed=1) != method.draw(3, 8, seed=2)
    assert method.training
    assert torch.equal(state, torch.get_rng_state())


def test_samples_hide_the_middle_of_a_text(tokenizer):
    rows = connected(tokenizer).samples(["the dog sees a small cat", "a", ""])
    assert rows[0]["text"].startswith("the dog") and rows[0]["text"].endswith("cat")
    assert rows[0]["hidden"] and rows[0]["hidden"] in "the dog sees a small cat"
    assert [row["hidden"] for row in rows[1:]] == ["", ""]


def test_bad_settings_are_refused(tokenizer):
    with pytest.raises(UserError, match="draws must be 2 or more, for a standard error, not 1"):
        MaskedDiffusion(draws=1)
    with pytest.raises(UserError, match="weighting 'odd' is unknown: use even or bound"):
        MaskedDiffusion(weighting="odd")
    with pytest.raises(UserError, match="max_masking_rate must be greater than 0 and at most 1, not 1.5"):
        MaskedDiffusion(max_masking_rate=1.5)
    with pytest.raises(UserError, match=r"^max_masking_rate\.start must be greater than 0 and at most 1, not 0.0"):
        MaskedDiffusion(max_masking_rate=Ramp(0.0, 1.0))
    method = connected(tokenizer)
    with pytest.raises(UserError, match="draws must be 2 or more, for a standard error, not 1"):
        method.score(["a"], draws=1)
    with pytest.raises(UserError, match="temperature must be 0 or more, not -1"):
        method.draw(1, 8, temperature=-1)
    with pytest.raises(UserError, match="steps must be 1 or more, not 0"):
        method.draw(1, 8, steps=0)
    with pytest.raises(UserError, match="number must be 0 or more, not -1"):
        method.draw(-1, 8)
    with pytest.raises(UserError, match="a text of 101 tokens exceeds the encoder's max_length of 64"):
        method.infill(["[MASK]" * 100])
    with pytest.raises(UserError, match=r"there is no \[MASK\] in 'the dog'"):
        method.infill(["the dog"])
