import math
from dataclasses import replace

import pytest
import torch
from transformers import BertConfig, BertModel

from ssl_nlp.data import Blocks, TokenBatch, Tokenizer
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import FreeGeneration
from ssl_nlp.methods import CausalLM, MaskedLM
from ssl_nlp.objectives.scores import Unable
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(60))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    blocks = Blocks().rows(open_store(CORPUS, "train", tokenizer, Blocks()), tokenizer, 32)
    return blocks[range(8)]


def connected(kind, tokenizer, **arguments):
    torch.manual_seed(0)
    method = kind(Transformer(size=None, dim=32, layers=2, heads=2, max_length=128), **arguments)
    method.connect(tokenizer)
    return method


@pytest.mark.parametrize("kind", [CausalLM, MaskedLM])
def test_the_loss_at_initialisation_is_that_of_guessing(kind, tokenizer, batch):
    method = connected(kind, tokenizer)
    loss = method.loss(batch)
    assert loss.mean().item() == pytest.approx(math.log(tokenizer.vocab_size), rel=0.01)


def test_causal_loss_equals_a_walk_over_every_document(tokenizer, batch):
    """The oracle reads each document of each row alone, position by position, and sums -log p of what follows."""
    method = connected(CausalLM, tokenizer).eval()
    total, targets = 0.0, 0
    for row in range(len(batch)):
        for segment in batch.segment_ids[row].unique().tolist():
            here = batch.segment_ids[row] == segment
            ids = batch.input_ids[row, here][None]
            hidden = method.encoder(TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False))
            log_p = method.head(hidden)[0].log_softmax(-1)
            for t, following in enumerate(batch.next_ids[row, here].tolist()):
                total -= float(log_p[t, following])
                targets += 1
    loss = method.loss(batch).terms["next_token"]
    assert int(loss.targets) == targets == batch.input_ids.numel()
    assert float(loss.total) == pytest.approx(total, rel=1e-5)


def test_both_texts_of_a_pair_are_predicted(tokenizer):
    method = connected(CausalLM, tokenizer).eval()
    first, second = (
        pad_rows([ids for ids, _ in tokenizer.encode(texts)], None, tokenizer, 64)
        for texts in (["the dog", "a cat sees"], ["the small red house likes the big tree", "a bird"])
    )
    both = method.loss(replace(first, pair=second)).terms["next_token"]
    alone = [method.loss(part).terms["next_token"] for part in (first, second)]
    assert int(both.targets) == sum(int(term.targets) for term in alone)
    assert float(both.total) == pytest.approx(sum(float(term.total) for term in alone), rel=1e-5)


def test_masked_loss_equals_the_dense_one_at_the_masked_positions(tokenizer, batch):
    """The oracle computes logits everywhere, then picks the positions that changed or were asked for."""
    method = connected(MaskedLM, tokenizer).eval()
    seen = {}
    method.encoder.register_forward_pre_hook(lambda _, arguments: seen.update(batch=arguments[0]))
    asked = []
    head_loss = method.head.loss
    method.head.loss = lambda hidden, targets: (asked.append((hidden, targets)), head_loss(hidden, targets))[1]
    loss = method.loss(batch).terms["masked_token"]
    [(hidden, targets)] = asked
    assert len(hidden) == round(0.15 * batch.n_tokens)  # the head runs at the predicted positions only
    log_p = method.head(method.encoder(seen["batch"])).log_softmax(-1).flatten(0, 1)
    hidden_everywhere = method.encoder(seen["batch"]).flatten(0, 1)
    positions = [int((hidden_everywhere == row).all(dim=1).nonzero()[0]) for row in hidden]
    expected = -sum(float(log_p[p, t]) for p, t in zip(positions, targets.tolist(), strict=True) if t != -100)
    assert float(loss.total) == pytest.approx(expected, rel=1e-5)
    originals = batch.input_ids.flatten()[positions]
    assert torch.equal(originals[targets != -100], targets[targets != -100])
    changed = (seen["batch"].input_ids != batch.input_ids).flatten().nonzero().squeeze(1)
    assert set(changed.tolist()) <= set(positions)


def test_masking_never_touches_special_tokens_and_replaces_by_used_ones(tokenizer, batch):
    method = connected(MaskedLM, tokenizer, masking_rate=0.9)
    counts = torch.bincount(batch.input_ids.flatten(), minlength=tokenizer.vocab_size)
    method.token_counts.copy_(counts)
    seen = []
    method.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].input_ids))
    special = torch.isin(batch.input_ids, torch.tensor(tokenizer.special_ids))
    for step in range(20):
        torch.manual_seed(step)
        method.loss(batch)
    allowed = (counts > 0).nonzero().squeeze(1)
    for ids in seen:
        assert torch.equal(ids[special], batch.input_ids[special])
        replaced = ids[(ids != batch.input_ids) & (ids != tokenizer.mask_id)]
        assert torch.isin(replaced, allowed).all()


def test_replacements_follow_the_counts_whenever_they_change(tokenizer, batch):
    """A validation comes before the corpus is counted; a checkpoint brings the counts of another one."""
    method = connected(MaskedLM, tokenizer, masking_rate=0.9)
    special = torch.tensor(tokenizer.special_ids)
    seen = []
    method.encoder.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].input_ids))

    def replacements() -> set[int]:
        seen.clear()
        for step in range(20):
            torch.manual_seed(step)
            method.loss(batch)
        ids = torch.stack(seen)
        return set(ids[(ids != batch.input_ids) & ~torch.isin(ids, special)].tolist())

    assert len(replacements()) > 100  # nothing is known: any token
    assert not replacements() & set(special.tolist())
    method.token_counts[:] = torch.isin(torch.arange(tokenizer.vocab_size), torch.tensor([2, 100, 101]))
    method.token_counts[special] = 5
    assert replacements() <= {2, 100, 101} - set(special.tolist())
    counts = torch.zeros_like(method.token_counts)
    counts[50] = 1
    method.load_state_dict(method.state_dict() | {"token_counts": counts})
    assert replacements() == {50}


def test_validation_asks_at_its_own_rate(tokenizer, batch):
    method = connected(MaskedLM, tokenizer, masking_rate=0.5)
    assert float(method.train().loss(batch).terms["masked_token"].targets) == pytest.approx(0.5 * batch.n_tokens, abs=1)
    assert float(method.eval().loss(batch).terms["masked_token"].targets) == pytest.approx(0.15 * batch.n_tokens, abs=1)


def test_generating_with_a_cache_equals_the_most_probable_continuation_without(tokenizer):
    method = connected(CausalLM, tokenizer).eval()
    prompts = ["the dog sees", "a", "the small red house likes the big"]
    generated = method.generate(prompts, max_new_tokens=12, temperature=0)
    for prompt, text in zip(prompts, generated, strict=True):
        [(ids, _)] = tokenizer.encode([prompt])
        new = []
        for _ in range(12):
            row = pad_rows([ids + new], None, tokenizer, 128)
            logits = method.head(method.encoder(row)[0, -1])
            logits[[i for i in tokenizer.special_ids if i != tokenizer.end_id]] = -torch.inf
            new.append(int(logits.argmax()))
            if new[-1] == tokenizer.end_id:
                new.pop()
                break
        assert text == tokenizer.decode(new)


def test_samples_are_reproducible_and_leave_the_mode_and_the_random_state_alone(tokenizer):
    method = connected(CausalLM, tokenizer).train()
    state = torch.get_rng_state()
    first = method.generate(["the"], seed=3)
    assert method.generate(["the"], seed=3) == first != method.generate(["the"], seed=4)
    assert method.draw(3, seed=3) == method.draw(3, seed=3) != method.draw(3, seed=4)
    assert method.training
    assert torch.equal(state, torch.get_rng_state())


def test_what_it_draws_continues_the_empty_text(tokenizer):
    method = connected(CausalLM, tokenizer)
    assert method.draw(3, 12, seed=3) == method.generate([""] * 3, 12, seed=3)
    many = method.draw(70, 5, seed=3)
    assert (len(many), many[:64]) == (70, method.generate([""] * 64, 5, seed=3))
    assert len(method.draw(2, max_new_tokens=1000, seed=0)) == 2  # as far as there is room
    assert method.draw(0) == []
    full = CausalLM(Transformer(size=None, dim=32, layers=2, heads=2, max_length=len(tokenizer.prefix)))
    full.connect(tokenizer)
    with pytest.raises(UserError, match="max_length of 1 leaves no room for text: raise it"):
        full.draw(1)


def test_without_a_token_in_front_of_texts_only_prompts_are_continued(tokenizer):
    bare = Tokenizer(tokenizer.serialize().replace('"prefix": [2], "suffix": []', '"prefix": [], "suffix": [2]'))
    method = connected(CausalLM, bare)
    assert len(method.generate(["the"], 4)) == 1
    reason = "a text can only begin with a token in front of it, and this tokenizer puts none there"
    with pytest.raises(UserError, match=reason):
        method.generate(["the", ""], 4)
    with pytest.raises(UserError, match=reason):
        method.draw(1, 4)
    with pytest.raises(Unable, match=reason):  # which leaves its cell empty
        FreeGeneration(["a"], ["b"], ["c"])(method)


def test_bad_settings_are_refused_together(tokenizer):
    method = connected(CausalLM, tokenizer)
    with pytest.raises(UserError, match="temperature must be 0 or more, not -1; top_k must be 1 or more, not 0"):
        method.generate(["a"], temperature=-1, top_k=0)
    with pytest.raises(UserError, match="exceed the encoder's max_length of 128"):
        method.generate(["a"], max_new_tokens=200)
    with pytest.raises(UserError, match="number must be 0 or more, not -1"):
        method.draw(-1)
    with pytest.raises(UserError, match="masking_rate must be between 0 and 1, not 1.5"):
        connected(MaskedLM, tokenizer, masking_rate=1.5)
    with pytest.raises(UserError, match="masking_unit 'sentence' is unknown: use token, word or span"):
        MaskedLM(masking_unit="sentence")


@pytest.mark.slow
def test_masked_lm_learns_to_fill_a_pattern_and_says_so(tokenizer, batch):
    method = connected(MaskedLM, tokenizer)
    ids = [ids for ids, _ in tokenizer.encode(["the dog sees the cat", "the bird hears the tree"] * 8)]
    rows = pad_rows(ids, None, tokenizer, 64)
    optimizer = torch.optim.AdamW(method.parameters(), 3e-3)
    for step in range(600):
        torch.manual_seed(step)
        loss = method.loss(rows)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    [best] = method.fill_mask("the bird [MASK] the tree", top_k=3)
    assert best[0][0].strip() == "hears"
    assert best[0][1] > 0.5
    assert len(best) == 3
    with pytest.raises(UserError, match="no \\[MASK\\]"):
        method.fill_mask("the bird")


@pytest.mark.parametrize("kind", [CausalLM, MaskedLM])
def test_embeddings_do_not_depend_on_the_batch_they_come_in(kind, tokenizer):
    method = connected(kind, tokenizer).train()
    texts = ["the dog", "a", "the small red house likes the big tree", ""]
    together = method.embed(texts, batch_size=4)
    alone = torch.cat([method.embed([text]) for text in texts])
    assert together.shape == (4, 32)
    assert torch.allclose(together, alone, atol=1e-5)
    assert method.training


def test_a_mask_is_filled_with_tokens_where_an_embedding_has_more_rows_than_there_are_tokens(tokenizer, tmp_path):
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=tokenizer.vocab_size + 5, **size)).save_pretrained(tmp_path)
    method = MaskedLM(PretrainedEncoder(str(tmp_path)))
    method.connect(tokenizer)
    [best] = method.fill_mask("the [MASK]", top_k=1000)
    assert len(best) == tokenizer.vocab_size - len(tokenizer.special_ids)


def test_masks_that_a_sample_text_has_of_its_own_are_not_asked_for(tokenizer):
    method = connected(MaskedLM, tokenizer)
    [row] = method.samples(["the <mask> dog [MASK] sees a cat"])
    assert row["text"].count("[MASK]") == 1 and "<mask>" not in row["text"]


CHINESE = "今天天气很好。我们去公园散步，他用手机看书。" * 4


def test_samples_of_a_text_without_spaces_show_a_beginning_of_it_and_hide_a_word(tokenizer):
    [row] = connected(MaskedLM, tokenizer).samples([CHINESE[:40]])
    before, after = row["text"].split("[MASK]")
    assert before
    assert after
    assert CHINESE.startswith(before + row["hidden"] + after)
    assert 1 <= len(row["hidden"]) <= 2
    [row] = connected(CausalLM, tokenizer).samples([CHINESE])
    assert CHINESE.startswith(row["prompt"])
    assert 0 < len(row["prompt"]) < 20
