"""Span corruption and text infilling: the loss against a walk over every target, what is learned, and what fills gaps."""

import math

import pytest
import torch
from lightning.pytorch import Trainer
from transformers import T5TokenizerFast

from ssl_nlp.data import TextDataModule, TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer, load_pretrained
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.export.convert import stock_model
from ssl_nlp.methods import Method, Optimization, SpanCorruption, TextInfilling
from ssl_nlp.methods.language_models.denoising import Denoising
from ssl_nlp.modules import BeamSearch
from tests.corpus import ListCorpus, random_texts

TEXTS = list(dict.fromkeys(random_texts(80, longest=12)))[:64]
CORPUS = ListCorpus(TEXTS, TEXTS)
LETTERS = list("abcdefghijklmnop")
SETTINGS = TokenizerSettings(vocab_size=340, sentinels=8)
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
METHODS = [SpanCorruption, TextInfilling]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(SETTINGS, CORPUS)


@pytest.fixture(scope="module")
def batch(tokenizer) -> TokenBatch:
    return pad_rows([ids for ids, _ in tokenizer.encode(TEXTS[:16])], None, tokenizer, 64)


def made(kind: type[Denoising], **arguments) -> Denoising:
    torch.manual_seed(0)
    return kind(Transformer(size=None, dim=32, layers=2, heads=2, max_length=64), **arguments)


def connected(kind: type[Denoising], tokenizer: Tokenizer, **arguments) -> Denoising:
    method = made(kind, **arguments)
    method.connect(tokenizer)
    return method.eval()


@torch.no_grad()
@pytest.mark.parametrize("kind", METHODS)
def test_the_loss_equals_a_walk_over_every_target(kind, tokenizer, batch):
    """The oracle reads one source alone, and predicts each token from those before it."""
    method = connected(kind, tokenizer)
    torch.manual_seed(1)
    source, target = method.corrupt(batch, method.validation)
    total, targets = 0.0, 0
    for row in range(len(batch)):
        read = source.input_ids[row, source.is_text[row]][None]
        alone = TokenBatch(read, torch.ones_like(read), packed=False, padded=False)
        states = method.encoder(alone)
        written = target.input_ids[row, target.is_text[row]].tolist()
        for t, following in enumerate([*written[1:], tokenizer.end_id]):
            ids = torch.tensor([written[: t + 1]])
            before = TokenBatch(ids, torch.ones_like(ids), packed=False, padded=False)
            log_p = method.decoder.head(method.decoder(states, alone, before)[0, -1]).log_softmax(-1)
            total -= float(log_p[following])
            targets += 1
    torch.manual_seed(1)
    term = method.loss(batch).terms["target_token"]
    assert int(term.targets) == targets
    assert float(term.total) == pytest.approx(total, rel=1e-5)
    assert total / targets == pytest.approx(math.log(tokenizer.vocab_size), rel=0.02)


def test_what_encoder_and_decoder_read(tokenizer, batch):
    """T5's decoder writes what is missing, BART's the whole text."""
    torch.manual_seed(1)
    source, target = connected(SpanCorruption, tokenizer).corrupt(batch, SpanCorruption.validation)
    assert target.input_ids[:, 0].tolist() == tokenizer.prefix * len(batch)
    assert set(target.input_ids[:, 1].tolist()) == {tokenizer.sentinel_ids[0]}
    assert (source.input_ids == tokenizer.sentinel_ids[0]).sum(dim=1).tolist() == [1] * len(batch)
    assert target.is_text.sum() < source.is_text.sum() / 2
    source, target = connected(TextInfilling, tokenizer).corrupt(batch, TextInfilling.validation)
    assert torch.equal(target.input_ids, batch.input_ids)
    assert ((source.input_ids == tokenizer.mask_id).any(dim=1)).float().mean() > 0.5  # a short text may stay whole
    assert source.is_text.sum() < 0.9 * batch.is_text.sum()


def test_sentences_are_permuted_in_training_alone(tokenizer):
    method = connected(TextInfilling, tokenizer, permute_sentences=True, masking_rate=0.01)
    text = "the dog sees. a cat hears. the bird likes. a house. the tree"
    [(ids, words)] = tokenizer.encode([text])
    batch = pad_rows([ids] * 8, [words] * 8, tokenizer, 64)
    for training in (False, True):
        torch.manual_seed(0)
        source, target = method.train(training).corrupt(batch, method.noise)
        assert torch.equal(target.input_ids, batch.input_ids)
        rows = [ids[: sum(real)] for ids, real in zip(source.input_ids.tolist(), source.is_text.tolist(), strict=True)]
        ordered = [[*filter(({*ids} - {tokenizer.mask_id}).__contains__, row)] for row in rows]
        remaining = [
            all(token in rest for token in row) for row, rest in zip(ordered, map(iter, [ids] * 8), strict=True)
        ]
        assert all(remaining) != training


@torch.no_grad()
@pytest.mark.parametrize("kind", METHODS)
def test_a_validation_is_the_same_whatever_the_training_hides(kind, tokenizer, batch):
    losses = {}
    for training in (False, True):
        for rate in (0.2, 0.6):
            method = connected(kind, tokenizer, masking_rate=rate, mean_span=2.0).train(training)
            torch.manual_seed(1)
            losses[training, rate] = float(method.loss(batch).mean())
    assert losses[False, 0.2] == losses[False, 0.6]
    assert len(set(losses.values())) == 3


@pytest.mark.parametrize("kind", METHODS)
def test_it_learns_sixty_four_sentences_by_heart_and_fills_their_gaps(kind, tmp_path):
    """Each names letters in their order, from one of 16 on; what is missing follows from both of its neighbours."""
    texts = [" ".join((LETTERS * 2)[start : start + size]) for size in (7, 8, 9, 10) for start in range(16)]
    encoder = Transformer(size=None, dim=32, layers=2, heads=2, max_length=64)
    arguments = {"masking_rate": 0.4, "mean_span": 2.0, "decoder_layers": 1, "search": BeamSearch(beams=2)}
    method = kind(encoder, **arguments, optimization=Optimization(learning_rate=0.01, schedule="constant"))
    tokens = TokenizerSettings(kind="word", vocab_size=340, sentinels=8)
    data = TextDataModule(ListCorpus(texts, texts), tokens, unit="sentence", length=32, batch_size=64)
    settings = {"accelerator": "cpu", "default_root_dir": tmp_path, "gradient_clip_val": 1.0, "limit_val_batches": 0}
    trainer = Trainer(max_steps=250, max_epochs=-1, log_every_n_steps=50, **settings, **QUIET)
    trainer.fit(method, datamodule=data)
    assert trainer.callback_metrics["train/loss"] < 0.3
    gaps = [" ".join([*text.split()[:2], "[MASK]", *text.split()[4:]]) for text in texts]
    assert sum(found == text for found, text in zip(method.infill(gaps), texts, strict=True)) > 50
    [sample] = method.samples([texts[0]])
    assert sample["text"].replace("[MASK]", sample["hidden"]) == texts[0]
    assert sample["filled"] == method.infill([sample["text"]])[0]


def test_written_spans_take_the_places_of_their_sentinels(tokenizer):
    method = connected(SpanCorruption, tokenizer)
    source = method.marked("the dog [MASK] a cat [MASK] house [MASK].")
    first, second, third, *_ = tokenizer.sentinel_ids
    [dog, sees, red] = ([*tokenizer.encode([text])[0][0][1:]] for text in (" dog", " sees", " red"))
    assert [source.count(sentinel) for sentinel in (first, second, third)] == [1, 1, 1]
    assert method.filled(source, [first, *sees, second, *red]) == "the dog sees a cat red house."
    assert method.filled(source, [*dog, second, *red, *dog, first]) == "the dog a cat red dog house."


@torch.no_grad()
@pytest.mark.parametrize("kind", METHODS)
def test_a_filling_does_not_depend_on_the_other_texts(kind, tokenizer):
    method = connected(kind, tokenizer, search=BeamSearch(beams=2, max_new_tokens=12)).train()
    for parameter in method.parameters():
        if parameter.dim() == 2:
            parameter.mul_(8)  # so that outputs differ
    asked = ["the [MASK] sees", "a small [MASK] house likes the [MASK] tree", "[MASK]"]
    together = method.infill(asked)
    assert together == [method.infill([text])[0] for text in asked] == method.infill(asked, batch_size=2)
    assert len(set(together)) == 3
    assert method.training


def test_a_text_that_is_written_as_a_whole_has_room_for_what_is_given(tokenizer, monkeypatch):
    """`max_new_tokens` is for what is new: a long text does not lose its end."""
    limits: list[int] = []
    monkeypatch.setattr(BeamSearch, "search", lambda _, rows, longest: limits.extend(longest) or [[]] * len(longest))
    method = connected(TextInfilling, tokenizer, search=BeamSearch(max_new_tokens=20))
    texts = ["the [MASK]", "the [MASK]" + " dog" * 40]
    method.infill(texts)
    short, long = (len(method.marked(text)) for text in texts)
    assert limits == [method.search.longest(short), long + 10]


def test_masks_that_a_sample_text_has_of_its_own_are_not_asked_for(tokenizer):
    method = connected(SpanCorruption, tokenizer, search=BeamSearch(beams=1, max_new_tokens=4))
    [sample, empty] = method.samples(["the <mask> dog [MASK] sees " * 9, ""])
    assert sample["text"].count("[MASK]") == 1 and "<mask>" not in sample["text"]
    assert (empty["text"], empty["hidden"]) == ("[MASK]", "")


@pytest.fixture(scope="module")
def t5(tmp_path_factory) -> str:
    """A tokenizer of T5's kind: nothing in front of a text, sentinels in descending order, no mask."""
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁the", -1.0), ("▁dog", -1.0), ("▁", -2.0)]
    vocabulary = [*words, *((letter, -5.0) for letter in "abcdefghijklmnopqrstuvwxyz.,")]
    folder = tmp_path_factory.mktemp("t5")
    T5TokenizerFast(vocab=vocabulary, extra_ids=12).save_pretrained(folder)
    return str(folder)


def test_a_tokenizer_of_t5_brings_its_sentinels(t5, tmp_path):
    tokenizer = load_pretrained(t5)
    assert [tokenizer.token(i) for i in tokenizer.sentinel_ids] == [f"<extra_id_{i}>" for i in range(12)]
    assert tokenizer.prefix == []
    method = made(SpanCorruption, search=BeamSearch(beams=2, max_new_tokens=4))
    data = TextDataModule(CORPUS, TokenizerSettings(name=t5), unit="sentence", length=64, batch_size=4)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=2, limit_val_batches=1, **QUIET)
    trainer.fit(method, datamodule=data)
    batch = next(iter(data.val_dataloader()))
    assert method._corrupted(batch)[1].input_ids[:, 0].tolist() == [tokenizer.pad_id] * len(batch)
    [filled] = method.infill(["the dog [MASK] the dog"])
    assert filled.startswith("the dog") and filled.endswith("the dog")
    with pytest.raises(UserError, match="no mask token: TextInfilling needs one"):
        connected(TextInfilling, tokenizer)


def test_bad_settings_are_refused_in_one_line(tokenizer, tmp_path):
    for kind in METHODS:
        with pytest.raises(
            UserError,
            match=r"masking_rate must be .* not 1.0; mean_span must be .* 0.5; decoder_layers must be .* 0; "
            r"decoder_width must be even and 2 or more, or null, not 7; dropout of the decoder must be .* not 1",
        ):
            kind(masking_rate=1.0, mean_span=0.5, decoder_layers=0, decoder_width=7, dropout=1)
        method = connected(kind, tokenizer)
        for text, message in (
            ("the dog", "no \\[MASK\\] in"),
            ("the [MASK]" + " dog" * 80, "exceeds the encoder's max"),
        ):
            with pytest.raises(UserError, match=message):
                method.infill([text])
    with pytest.raises(UserError, match="9 masks, and there are tokens for 8"):
        connected(SpanCorruption, tokenizer).infill(["[MASK] a" * 9])
    with pytest.raises(
        UserError, match="no sentinels to stand for missing spans: train one with data.tokenizer.sentinels"
    ):
        connected(SpanCorruption, get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS))


def test_texts_with_more_spans_than_sentinels_are_refused_before_the_training(tmp_path):
    data = TextDataModule(CORPUS, SETTINGS, unit="sentence", length=64, batch_size=4)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=1, limit_val_batches=0, **QUIET)
    with pytest.raises(UserError, match="a text of 63 tokens has 31 missing spans, and the tokenizer has 8 sentinels"):
        trainer.fit(made(SpanCorruption, masking_rate=0.5, mean_span=1.0), datamodule=data)


@pytest.mark.parametrize("kind", METHODS)
def test_the_encoder_is_exported_without_the_decoder(kind, tokenizer):
    stock = stock_model(connected(kind, tokenizer))
    assert stock.loads_as == ["AutoModel"]
    [note] = stock.left_out
    assert note.startswith("It is the encoder alone: the weights of the decoder fit no stock class, because T5For")


def test_checkpoints_and_embeddings(tokenizer, tmp_path):
    method = connected(SpanCorruption, tokenizer)
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=1, limit_val_batches=0, **QUIET)
    trainer.fit(method, datamodule=TextDataModule(CORPUS, SETTINGS, unit="text", length=64, batch_size=4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(loaded.embed(TEXTS[:3]), method.embed(TEXTS[:3]))
    rows = pad_rows([ids for ids, _ in tokenizer.encode(TEXTS[:1])], None, tokenizer, 64)
    torch.testing.assert_close(loaded.embed(TEXTS[:1])[0], loaded.encoder(rows)[0].mean(dim=0))
