"""Skip-gram and CBOW against slow loops over explicit pairs, closed forms, and what every method promises."""

import json
import math
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from gensim.models.fasttext import ft_ngram_hashes
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.nn.functional import logsigmoid

from ssl_nlp.corpora import HubDataset
from ssl_nlp.data import TextDataModule, TokenBatch, TokenizerSettings
from ssl_nlp.encoders import BagOfWords, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import CBOW, MaskedLM, Method, MultiObjective, Optimization, SkipGram
from ssl_nlp.methods.word_vectors.windowed import SHARED, Windowed
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(random_texts(64, longest=12))
SETTINGS = TokenizerSettings(kind="word", vocab_size=320)
KINDS = [SkipGram, CBOW]
OUTPUTS = ["negative_sampling", "hierarchical_softmax"]
ADAM = Optimization("torch.optim.SparseAdam", 0.01, schedule="constant", warmup=0)


def data(unit: str = "block", **more) -> TextDataModule:
    return TextDataModule(CORPUS, SETTINGS, unit, **({"length": 40, "batch_size": 4, "seed": 0} | more))


def made(kind: type[Windowed], **arguments) -> Windowed:
    """A method over vectors that are not small, and knows the counts of words."""
    arguments = {"encoder": BagOfWords(dim=6), "window": 3, "negatives": 4, "subsample": 0.1} | arguments
    method, module = kind(**{"optimization": ADAM} | arguments), data()
    method.connect(module.tokenizer)
    method.token_counts.copy_(torch.from_numpy(module.token_counts()))
    torch.manual_seed(0)
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter)
    return method


def batch() -> TokenBatch:
    """Rows of several documents each, with special tokens in between."""
    found = next(iter(data().train_dataloader()))
    assert found.packed
    return found


def slow_loss(method: Windowed, seed: int, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, int]:
    """The loss of a batch and its number of targets, pair by pair."""
    torch.manual_seed(seed)
    windows = method.windows(batch())
    negatives = None if method.hierarchical else method.draw_negatives(len(windows.words))
    nodes, signs = method.frequencies.nodes, method.frequencies.signs
    share, total, targets = method.negatives / SHARED, torch.zeros(()), 0

    def loss(vector: Tensor, word: int, block: int) -> Tensor:
        if negatives is None:
            path = [(n, s) for n, s in zip(nodes[word].tolist(), signs[word].tolist(), strict=True) if s]
            return -sum(logsigmoid(s * (vector @ outputs[n])) for n, s in path)
        drawn = logsigmoid(-outputs[negatives[block]] @ vector).sum()
        return -logsigmoid(vector @ outputs[word]) - share * drawn

    for block, words in enumerate(windows.words.tolist()):
        for place, word in enumerate(words):
            near = windows.near[block, place].nonzero().flatten().tolist()
            context = [int(windows.ids[block * len(words) + place + column]) for column in near]
            if isinstance(method, SkipGram):
                total = total + sum(loss(inputs[word], other, block) for other in context)
                targets += len(context)
            elif context:
                total = total + loss(inputs[context].mean(dim=0), word, block)
                targets += 1
    return total, targets


@pytest.mark.parametrize("optimizer", ["torch.optim.SparseAdam", "adamw"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradient_are_those_of_a_loop_over_pairs(kind, output, optimizer):
    method = made(kind, output=output, optimization=Optimization(optimizer))
    torch.manual_seed(3)
    [term] = method.loss(batch()).terms.values()
    term.total.backward()
    weights = [method.encoder.embedding.weight, method.outputs.weight]
    assert all(weight.grad.is_sparse == (optimizer != "adamw") for weight in weights)
    copies = [weight.detach().clone().requires_grad_() for weight in weights]
    total, targets = slow_loss(method, 3, *copies)
    total.backward()
    assert targets == int(term.targets) > 100
    torch.testing.assert_close(term.total, total)
    for weight, copy in zip(weights, copies, strict=True):
        torch.testing.assert_close(weight.grad.to_dense(), copy.grad, rtol=1e-4, atol=1e-5)
    torch.manual_seed(3)
    assert [int(number) for number in method.count_targets(batch()).values()] == [targets]


@pytest.mark.parametrize(("kind", "optimizer"), [(SkipGram, "torch.optim.SparseAdam"), (CBOW, "adamw")])
def test_a_word_with_ngrams_is_the_mean_of_its_parts_and_passes_its_gradient_on_to_them(kind, optimizer):
    """The oracle multiplies both tables with a matrix that says which parts each word has."""
    encoder = BagOfWords(dim=6, ngrams=[3, 5], buckets=40)
    method = made(kind, encoder=encoder, optimization=Optimization(optimizer))
    torch.manual_seed(3)
    [term] = method.loss(batch()).terms.values()
    term.total.backward()
    words, ngrams = encoder.embedding.weight, encoder.ngrams.table.weight
    assert all(weight.grad.is_sparse == (optimizer != "adamw") for weight in (words, ngrams))
    parts = torch.eye(method.vocab_size, method.vocab_size + 40)
    for token in method.maskable.nonzero().flatten().tolist():
        for row in ft_ngram_hashes(method.tokenizer.token(token), 3, 5, 40):
            parts[token, method.vocab_size + row] += 1
    copies = [weight.detach().clone().requires_grad_() for weight in (words, ngrams)]
    inputs = parts / parts.sum(dim=1, keepdim=True) @ torch.cat(copies)
    total, _ = slow_loss(method, 3, inputs, method.outputs.weight.detach())
    total.backward()
    torch.testing.assert_close(term.total, total)
    for weight, copy in zip((words, ngrams), copies, strict=True):
        torch.testing.assert_close(weight.grad.to_dense(), copy.grad, rtol=1e-4, atol=1e-5)


def test_windows_are_drawn_around_what_subsampling_leaves_of_each_document():
    method, rows = made(SkipGram, subsample=0.02), batch()
    torch.manual_seed(1)
    windows = method.windows(rows)
    torch.manual_seed(1)
    draws = torch.rand(rows.input_ids.shape)
    frequency = method.token_counts / method.token_counts[method.maskable].sum()
    documents: dict[tuple[int, int], list[int]] = {}
    for row, column in rows.is_text.nonzero().tolist():
        token = int(rows.input_ids[row, column])
        kept = math.sqrt(0.02 / frequency[token]) + 0.02 / frequency[token]
        if method.maskable[token] and draws[row, column] < kept:
            documents.setdefault((row, int(rows.segment_ids[row, column])), []).append(token)
    words = [token for document in documents.values() for token in document]
    assert 0.3 < len(words) / rows.n_tokens < 0.9
    assert windows.words.flatten()[: len(words)].tolist() == words
    ends = [0]
    for document in documents.values():
        ends.append(ends[-1] + len(document))
    near = windows.near.flatten(0, 1)
    for i, row in enumerate(near):
        reached = {i + column - 3 for column in row.nonzero().flatten().tolist()}
        reach = max((abs(i - j) for j in reached), default=0)
        first, last = next(((a, b) for a, b in pairwise(ends) if a <= i < b), (i, i))
        whole = {j for j in range(max(first, i - reach), min(last, i + reach + 1)) if j != i}
        assert reached == whole
    assert {int(row.sum()) for row in near} >= {0, 2, 4, 6}


def test_the_reach_of_a_window_is_uniform_from_one_to_the_widest_and_drawn_for_each_word():
    """Five standard deviations of a binomial: each reach, and each pair of reaches of neighbours."""
    method = made(SkipGram, window=5, subsample=0)
    ids = method.maskable.nonzero().flatten()[:5].repeat(1, 1000)
    torch.manual_seed(0)
    near = method.windows(TokenBatch(ids, torch.ones_like(ids))).near.flatten(0, 1)[5 : ids.shape[1] - 5]
    reach = near[:, :5].sum(dim=1)  # of words that have five words on either side
    assert torch.equal(near, near.flip(1)) and not near[:, 5].any()
    for drawn, kinds in ((reach, 5), (5 * (reach[:-1] - 1) + reach[1:], 25)):
        shares = torch.bincount(drawn - 1, minlength=kinds) / len(drawn)
        tolerance = 5 * math.sqrt((1 - 1 / kinds) / kinds / len(drawn))
        torch.testing.assert_close(shares, torch.full((kinds,), 1 / kinds), atol=tolerance, rtol=0)


@pytest.mark.parametrize("output", OUTPUTS)
def test_words_that_the_counted_part_of_a_stream_lacks_are_trained_too(output, tmp_path):
    lines = [json.dumps({"text": f"the dog sees w{i}x w{i}y"}) for i in range(40)]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    stream = HubDataset(str(tmp_path), valid=0.1, test=None, streaming=True, window=5)
    method = SkipGram(BagOfWords(dim=6), subsample=0, output=output, optimization=ADAM)
    module = TextDataModule(stream, SETTINGS, length=40, batch_size=4, seed=0)
    trainer(tmp_path, 3, enable_checkpointing=False, limit_val_batches=0).fit(method, module)
    words = next(iter(module.train_dataloader())).input_ids.unique()
    assert (method.frequencies.kept[words] == method.maskable[words]).all()
    assert (method.frequencies.noise[words] > 0).equal(method.maskable[words])
    if method.hierarchical:
        assert method.frequencies.signs[words].any(dim=1).equal(method.maskable[words])


def test_other_weights_of_an_encoder_that_it_shares_keep_their_vectors_of_the_frame():
    """Those of masks and boundaries are read there, and a vector of zeros has no direction for the norm that follows."""
    shared = MultiObjective(Transformer(None, dim=8, layers=1, heads=2), [MaskedLM(), SkipGram()])
    shared.connect(data().tokenizer)
    weight = shared.encoder.embedding.weight
    assert (
        weight[[token for token in shared.tokenizer.special_ids if token != shared.tokenizer.pad_id]].any(dim=1).all()
    )
    alone = SkipGram(BagOfWords(dim=6))
    alone.connect(shared.tokenizer)
    assert not alone.encoder.embedding.weight[shared.tokenizer.special_ids].any()


@pytest.mark.parametrize("kind", KINDS)
def test_without_subsampling_and_in_a_validation_all_words_are_kept_and_special_tokens_never_are(kind):
    rows, losses = batch(), []
    for method in (made(kind, subsample=0), made(kind, subsample=1e-9).eval()):
        kept = method.windows(rows).words
        assert (kept != method.tokenizer.pad_id).sum() == method.maskable[rows.input_ids].sum() < rows.n_tokens
        torch.manual_seed(0)
        losses.append(float(method.loss(rows).mean().detach()))
    assert losses[0] == losses[1] > 0


def test_new_counts_replace_those_before_and_text_of_which_few_words_are_left_is_warned_of(capsys):
    """Also as one of several objectives, which only their counts reach."""
    together = MultiObjective(BagOfWords(dim=6), [SkipGram(subsample=1e-5), CBOW(subsample=0.1)])
    together.connect((module := data()).tokenizer)
    few = TextDataModule(ListCorpus(CORPUS.texts["train"][:9]), SETTINGS)
    few.continue_with(module.tokenizer, {})
    for counted in (module, few):
        together.take_counts(counted)
        for method in together.objectives.values():
            counts = torch.from_numpy(counted.token_counts())
            assert method.frequencies.noise.equal(torch.where(method.maskable, counts, 0).double() ** 0.75)
        found = capsys.readouterr().err
        expected = r"warning: subsample 1e-05 keeps \d % of the words of this text, because each is frequent: set model"
        assert re.search(expected, found) and found.count("warning") == 1


def test_negatives_are_drawn_by_the_power_of_their_counts():
    method = made(SkipGram)
    torch.manual_seed(0)
    drawn = torch.bincount(method.draw_negatives(10_000).flatten(), minlength=method.vocab_size).double()
    expected = torch.where(method.maskable, method.token_counts, 0).double() ** 0.75
    torch.testing.assert_close(drawn / drawn.sum(), expected / expected.sum(), atol=2e-3, rtol=0)


def test_scores_approach_the_shifted_mutual_information_that_minimises_the_loss(tmp_path):
    """u_i · v_j = log(#(i, j) / (#(i) k q(j))), with q the noise (Levy and Goldberg 2014, equation 12)."""
    optimization = Optimization("torch.optim.SparseAdam", 0.05, schedule="linear", warmup=0, final=0.01)
    method = SkipGram(BagOfWords(dim=20), window=1, negatives=2, subsample=0, optimization=optimization)
    module = data(length=1000)
    trainer(tmp_path, 600, enable_checkpointing=False, limit_val_batches=0).fit(method, module)
    pairs = torch.zeros(method.vocab_size, method.vocab_size, dtype=torch.float64)
    for text in CORPUS.texts["train"]:
        [(ids, _)] = module.tokenizer.encode([text])
        for i, j in pairwise(ids[1:]):
            pairs[i, j] += 1
            pairs[j, i] += 1
    noise = method.frequencies.noise / method.frequencies.noise.sum()
    best = (pairs / (pairs.sum(dim=1, keepdim=True) * 2 * noise)).log()
    scores = method.encoder.embedding.weight @ method.outputs.weight.T
    often = pairs >= 5
    assert often.sum() > 50
    assert float((scores[often] - best[often]).abs().mean()) < 0.15


@pytest.mark.parametrize("output", OUTPUTS)
def test_cbow_learns_by_heart_what_stands_between_two_words_of_64_sentences(output):
    generator = random.Random(0)
    texts = [" ".join(f"w{generator.randrange(300)}x" for _ in range(6)) for _ in range(64)]
    module = TextDataModule(ListCorpus(texts), SETTINGS, length=40, batch_size=16, seed=0)
    torch.manual_seed(0)
    method = CBOW(BagOfWords(dim=48), window=1, subsample=0, output=output, optimization=Optimization("adamw"))
    method.connect(module.tokenizer)
    method.token_counts.copy_(torch.from_numpy(module.token_counts()))
    optimizer = torch.optim.Adam(method.parameters(), 0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 300)
    rows = next(iter(module.train_dataloader()))  # all of them
    for step in range(300):
        torch.manual_seed(step)
        loss = method.loss(rows)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        schedule.step()
    method.eval().requires_grad_(False)
    every = method.maskable.nonzero().flatten()
    found = asked = 0
    for ids, _ in module.tokenizer.encode(texts):
        words = torch.tensor([token for token in ids if method.maskable[token]])
        means = method.encoder.token_vectors(torch.stack([words[:-2], words[2:]])).mean(dim=0)
        if method.hierarchical:
            signs = method.frequencies.signs[every][..., None]
            scores = method.outputs(method.frequencies.nodes[every]) @ means.T  # (V, L, N)
            likely = (logsigmoid(scores * signs) * (signs != 0)).sum(dim=1)
        else:
            likely = method.outputs(every) @ means.T
        found += int((every[likely.argmax(dim=0)] == words[1:-1]).sum())
        asked += len(means)
    assert asked == 4 * 64
    assert found > 0.7 * asked  # guessing would find one


def trainer(folder: Path, steps: int, **arguments) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(default_root_dir=folder, accelerator="cpu", max_steps=steps, **(quiet | arguments))


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize(("kind", "output", "ngrams"), [(SkipGram, OUTPUTS[0], [3, 4]), (CBOW, OUTPUTS[1], None)])
def test_a_run_resumed_from_a_checkpoint_ends_with_the_same_bits(kind, output, ngrams, accumulated, tmp_path):
    def fit(checkpoint: Path | None = None) -> Method:
        encoder = BagOfWords(dim=6, dropout=0.1, ngrams=ngrams, buckets=50)
        method = kind(encoder, output=output, optimization=ADAM)
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=3)
        run = trainer(tmp_path, 6, accumulate_grad_batches=accumulated, limit_val_batches=0, callbacks=[keep])
        run.fit(method, data(), ckpt_path=checkpoint, weights_only=True)
        return method

    whole = fit().state_dict()
    half = torch.load(tmp_path / "step=3.ckpt", weights_only=True)["state_dict"]
    resumed = fit(tmp_path / "step=3.ckpt").state_dict()
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())
    assert not torch.equal(half["outputs.weight"], whole["outputs.weight"])
    loaded = kind.load_from_checkpoint(tmp_path / "step=3.ckpt")
    torch.manual_seed(0)
    first = loaded.loss(batch()).mean()
    assert loaded.frequencies.noise.any() and first.isfinite()
    assert loaded.embed(["the dog", ""]).shape == (2, 6)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_without_pairs_has_no_loss_and_trains_nothing(kind, output):
    method = made(kind, output=output, subsample=0)
    word = int(method.token_counts.where(method.maskable, 0).argmax())
    for ids in ([method.tokenizer.prefix[0]] * 5, [method.tokenizer.prefix[0], word]):
        row = torch.tensor([ids])
        [term] = method.loss(TokenBatch(row, torch.ones_like(row), n_tokens=len(ids))).terms.values()
        term.total.backward()
        assert (float(term.total.detach()), int(term.targets)) == (0, 0)
    assert not any(parameter.grad.to_dense().any() for parameter in method.parameters())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0, "negatives": 0}, "window must be at least 1, not 0; negatives must be at least 1, not 0"),
        ({"subsample": -1.0}, "subsample must be between 0 and 1, not -1.0"),
        ({"output": "softmax"}, "output 'softmax' is unknown: use negative_sampling or hierarchical_softmax"),
    ],
)
def test_bad_settings_are_refused_in_one_line(arguments, message):
    with pytest.raises(UserError, match=message):
        SkipGram(**arguments)


def test_an_encoder_with_other_weights_and_what_sparse_gradients_cannot_do_are_refused(tmp_path, monkeypatch):
    method = SkipGram(Transformer(None, dim=8, layers=1, heads=2))
    with pytest.raises(UserError, match="set encoder to ssl_nlp.encoders.BagOfWords"):
        trainer(tmp_path, 1, enable_checkpointing=False).fit(method, data())
    method = SkipGram(BagOfWords(dim=6), optimization=ADAM)
    with pytest.raises(UserError, match="gradient_clip_val cannot clip gradients of some rows"):
        trainer(tmp_path, 1, enable_checkpointing=False, gradient_clip_val=1.0).fit(method, data())
    monkeypatch.setattr(SkipGram, "sharded", True)
    with pytest.raises(UserError, match="gets gradients of some rows here, which cannot be sharded: use ddp, or"):
        method.check_data(data())
