"""Texts from texts: the loss against a walk over every pair, decoding, metrics, and the whole way of a training."""

import math
import warnings
from dataclasses import replace

import pytest
import sacrebleu
import torch
from lightning.pytorch import Trainer
from transformers import BertConfig, BertModel, BertTokenizerFast, T5TokenizerFast

from ssl_nlp.corpora import Document
from ssl_nlp.data import Pairs, TextDataModule, TokenBatch, Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer, load_pretrained
from ssl_nlp.data.units import pad_rows
from ssl_nlp.encoders import PretrainedEncoder, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.export.convert import stock_model
from ssl_nlp.modules import BeamSearch
from ssl_nlp.tasks import SequenceToSequence
from ssl_nlp.training import Optimization
from tests.corpus import ListCorpus, random_texts

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
FORMS = ["encoder_decoder", "decoder_only"]
WORDS = {"the": "Der", "a": "Ein", "dog": "Hund", "cat": "Kater", "bird": "Vogel", "sees": "sieht", "hears": "hört"}


def translated(text: str) -> str:
    """Word by word."""
    return " ".join(WORDS.get(word, word.upper()) for word in text.split())


PAIRS = [(text, translated(text)) for text in dict.fromkeys(random_texts(40, longest=7))][:32]
CORPUS = ListCorpus(PAIRS, PAIRS, PAIRS[:20])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=340), CORPUS)


def task(form: str = "encoder_decoder", **settings) -> SequenceToSequence:
    torch.manual_seed(0)
    encoder = Transformer(size=None, dim=32, layers=2, heads=2, max_length=128)
    given = {"decoder_layers": 2, "dropout": 0.0, "search": BeamSearch(beams=2)}
    return SequenceToSequence(encoder, form, **given | settings)


def connected(tokenizer: Tokenizer, form: str, **settings) -> SequenceToSequence:
    model = task(form, **settings)
    model.connect(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(4)  # so that attention is far from uniform
    return model.eval()


def data(**settings) -> TextDataModule:
    given = {"tokenizer": TokenizerSettings(vocab_size=340), "unit": "pair", "length": 128, "batch_size": 8}
    return TextDataModule(CORPUS, **given | settings)


def batch_of(tokenizer: Tokenizer, pairs: list[tuple[str, str]], length: int = 64) -> TokenBatch:
    rows = (
        pad_rows([i for i, _ in tokenizer.encode(list(t))], None, tokenizer, length) for t in zip(*pairs, strict=True)
    )
    first, second = rows
    return replace(first, pair=second, documents=torch.arange(len(pairs)))


def trainer_for(folder, **settings) -> Trainer:
    return Trainer(default_root_dir=folder, accelerator="cpu", enable_checkpointing=False, **QUIET | settings)


def fitted(model: SequenceToSequence, tmp_path, steps: int) -> Trainer:
    trainer = trainer_for(tmp_path, max_steps=steps, max_epochs=-1, limit_val_batches=0, gradient_clip_val=1.0)
    trainer.fit(model, datamodule=data(batch_size=32))
    return trainer


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_the_loss_equals_a_walk_over_every_pair(form, tokenizer):
    """The oracle reads one pair alone, and asks for each token with nothing but the source and the tokens before it."""
    model = connected(tokenizer, form)
    total, targets = 0.0, 0
    for source, target in PAIRS[:8]:
        (x, _), (y, _) = tokenizer.encode([source, target])
        for t, following in enumerate([*y[1:], tokenizer.end_id]):
            log_p = (model.head if form == "decoder_only" else model.decoder.head)(last_state(model, x, y[: t + 1]))
            total -= float(log_p.log_softmax(-1)[following])
            targets += 1
    batch = batch_of(tokenizer, PAIRS[:8])
    loss = model.loss(batch)
    assert int(loss.terms["target_token"].targets) == targets == int(model.count_targets(batch)["target_token"])
    assert float(loss.terms["target_token"].total) == pytest.approx(total, rel=1e-5)
    bits, size = loss.metrics["bits_per_byte"]
    assert float(bits) == pytest.approx(total / math.log(2), rel=1e-5)
    assert int(size) == sum(len(target.encode()) for _, target in PAIRS[:8])


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_with_a_tokenizer_of_t5_the_decoder_begins_with_padding(form, tmp_path):
    """Nothing stands in front of a text. The oracles: a walk over every pair, and greedy decoding without a cache."""
    tokenizer = t5_tokenizer(tmp_path)
    model = connected(tokenizer, form, search=BeamSearch(beams=1, max_new_tokens=6))
    pairs = [("the dog", "the"), ("a dog sees", "dog the"), ("the", "sees a dog the")]
    begin = [tokenizer.pad_id] if form == "encoder_decoder" else []
    head = model.head if form == "decoder_only" else model.decoder.head
    total, targets, written = 0.0, 0, []
    for source, target in pairs:
        (x, _), (y, _) = tokenizer.encode([source, target])
        for t, following in enumerate(y):
            total -= float(head(last_state(model, x, begin + y[:t])).log_softmax(-1)[following])
            targets += 1
        new: list[int] = []
        while len(new) < 6 and tokenizer.end_id not in new:
            logits = head(last_state(model, x, begin + new))
            logits[[token for token in tokenizer.special_ids if token != tokenizer.end_id]] = -torch.inf
            new.append(int(logits.argmax()))
        written.append(tokenizer.decode(new))
    batch = batch_of(tokenizer, pairs)
    term = model.loss(batch).terms["target_token"]
    assert int(term.targets) == targets == int(model.count_targets(batch)["target_token"])
    assert float(term.total) == pytest.approx(total, rel=1e-5)
    assert model.predict([source for source, _ in pairs]) == written


def t5_tokenizer(folder) -> Tokenizer:
    words = ["<pad>", "</s>", "<unk>", "▁the", "▁dog", "▁a", "▁sees", "▁", *"abcdefghijklmnopqrstuvwxyz.,"]
    T5TokenizerFast(vocab=[(word, -float(place)) for place, word in enumerate(words)], extra_ids=4).save_pretrained(
        folder
    )
    return load_pretrained(str(folder))


def last_state(model: SequenceToSequence, x: list[int], y: list[int]) -> torch.Tensor:
    def row(ids: list[int]) -> TokenBatch:
        return TokenBatch(torch.tensor([ids]), torch.ones(1, len(ids)).long(), packed=False, padded=False)

    if model.form == "decoder_only":
        return model.encoder(row(x + y))[0, -1]
    return model.decoder(model.encoder(row(x)), row(x), row(y))[0, -1]


@torch.no_grad()
@pytest.mark.parametrize("form", FORMS)
def test_other_pairs_of_the_batch_change_nothing(form, tokenizer):
    model = connected(tokenizer, form)
    pairs = sorted(PAIRS[:6], key=lambda pair: len(pair[0]))
    together = model.predict([source for source, _ in pairs])
    assert together == [model.predict([source])[0] for source, _ in pairs]
    assert len(set(together)) > 1
    total = float(model.loss(batch_of(tokenizer, pairs)).terms["target_token"].total)
    alone = [float(model.loss(batch_of(tokenizer, [pair])).terms["target_token"].total) for pair in pairs]
    assert total == pytest.approx(sum(alone), rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_smoothed_in_training_only(form, tokenizer):
    batch = batch_of(tokenizer, PAIRS[:4])
    smooth, plain = connected(tokenizer, form, label_smoothing=0.2), connected(tokenizer, form, label_smoothing=0.0)
    with torch.no_grad():
        assert torch.equal(smooth.loss(batch).mean(), plain.loss(batch).mean())
        assert smooth.train().loss(batch).mean() != plain.train().loss(batch).mean()


@pytest.mark.parametrize("form", FORMS)
def test_it_learns_thirty_two_pairs_by_heart(form, tmp_path):
    settings = Optimization(optimizer="muon", learning_rate=0.01)
    model = task(form, decoded=None, label_smoothing=0.0, optimization=settings)
    fitted(model, tmp_path, steps=120)
    [scores] = trainer_for(tmp_path).validate(model, datamodule=data(), verbose=False)
    assert model.predict([source for source, _ in PAIRS]) == [target for _, target in PAIRS]
    assert scores["val/bleu"] == pytest.approx(100) and scores["val/rougel"] == 100
    assert (
        scores["val/perplexity"] == pytest.approx(math.exp(scores["val/loss"]), rel=1e-5) and scores["val/loss"] < 0.1
    )


def test_a_validation_decodes_the_first_pairs_and_a_test_all_of_them(tmp_path):
    model = task(decoded=10)
    fitted(model, tmp_path, steps=30)
    [scores] = trainer_for(tmp_path).validate(model, datamodule=data(), verbose=False)
    samples = model.sample_documents([])
    assert [(sample["source"], sample["reference"]) for sample in samples] == PAIRS[:10]
    outputs = [sample["output"] for sample in samples]
    assert outputs == model.predict([sample["source"] for sample in samples])
    records = model.predict_records([Document(sample["source"], pair="x") for sample in samples])
    assert all(record.pop("log_probability") < 0 for record in records)
    assert records == [{"text": s["source"], "pair": "x", "prediction": s["output"]} for s in samples]
    references = [[sample["reference"] for sample in samples]]
    assert scores["val/bleu"] == pytest.approx(sacrebleu.corpus_bleu(outputs, references).score, rel=1e-5)
    assert scores["val/chrf"] == pytest.approx(sacrebleu.corpus_chrf(outputs, references).score, rel=1e-5)
    [scores] = trainer_for(tmp_path).test(model, datamodule=data(), verbose=False)
    assert [(sample["source"], sample["reference"]) for sample in model.sample_documents([])] == PAIRS[:20]
    assert {"test/bleu", "test/chrf", "test/rougel", "test/perplexity", "test/bits_per_byte"} <= scores.keys()


def test_predictions_for_data_read_as_much_of_the_source_as_their_test_does(tmp_path):
    long = [(" ".join(random_texts(9, longest=7)[n:]), target) for n, (_, target) in enumerate(PAIRS[:6])]
    module = TextDataModule(ListCorpus(PAIRS, long, long), TokenizerSettings(vocab_size=340), Pairs(8), length=40)
    model = task()
    fitted(model, tmp_path, steps=10)
    trainer_for(tmp_path).test(model, datamodule=module, verbose=False)
    tested = {sample["source"]: sample["output"] for sample in model.sample_documents([])}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the encoder itself would read more
        records = model.predict_records([Document(text) for text, _ in long], data=module)
    assert {record["text"]: record["prediction"] for record in records} == tested
    assert list(tested.values()) != model.predict([*tested])


def test_references_are_the_texts_and_not_what_the_tokenizer_leaves_of_them(tmp_path):
    model = task()
    lower = TokenizerSettings(vocab_size=340, lowercase=True)
    trainer_for(tmp_path).validate(model, datamodule=data(tokenizer=lower), verbose=False)
    assert {(sample["source"], sample["reference"]) for sample in model.sample_documents([])} == set(PAIRS)


def test_consecutive_sentences_are_pairs_too(tmp_path):
    texts = [f"The dog sees {n}. A cat hears {n}. The bird likes {n}. A house is {n}. The rest." for n in range(10)]
    model = task()
    module = TextDataModule(ListCorpus(texts, texts), TokenizerSettings(vocab_size=340), unit="pair", length=128)
    trainer_for(tmp_path).validate(model, datamodule=module, verbose=False)
    expected = {(f"The dog sees {n}.", f"A cat hears {n}.") for n in range(10)}
    expected |= {(f"The bird likes {n}.", f"A house is {n}.") for n in range(10)}
    assert {(sample["source"], sample["reference"]) for sample in model.sample_documents([])} == expected


@torch.no_grad()
def test_a_frame_with_an_end_loses_its_beginning_in_one_row(tmp_path):
    """[CLS] x [SEP] y [SEP]: the end of the source predicts the first token of the target."""
    tokenizer = bert_tokenizer(tmp_path)
    model = connected(tokenizer, "decoder_only")
    batch = batch_of(tokenizer, [("the dog", "der hund"), ("a", "ein hund sieht")])
    rows, following = model._joined(batch)
    (x, _), (y, _) = tokenizer.encode(["the dog", "der hund"])
    assert rows.input_ids[0].tolist()[: len(x) + len(y) - 1] == x + y[1:]
    assert following[0].tolist()[: len(x) + len(y) - 1] == [-100] * (len(x) - 1) + y[1:] + [-100]
    assert int((following != -100).sum()) == int(model.count_targets(batch)["target_token"])
    assert model._begin(batch, 3)._unread.input_ids[0].tolist() == x


def bert_tokenizer(folder) -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "dog", "der", "ein", "hund", "sieht"]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return load_pretrained(str(folder))


def test_a_pretrained_encoder_reads_the_source(tmp_path):
    tokenizer = bert_tokenizer(tmp_path)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=tokenizer.vocab_size, max_position_embeddings=32, **size)).save_pretrained(tmp_path)
    model = SequenceToSequence(PretrainedEncoder(str(tmp_path)), decoder_layers=1)
    model.connect(tokenizer)
    batch = batch_of(tokenizer, [("the dog", "der hund"), ("a", "ein hund sieht")])
    loss = model.loss(batch)
    assert int(loss.terms["target_token"].targets) == 7  # the words and the ends
    loss.mean().backward()
    assert model.encoder.model.encoder.layer[0].attention.self.query.weight.grad.abs().sum() > 0
    assert len(model.predict(["the dog", "a"])) == 2


@pytest.mark.parametrize("form", FORMS)
def test_long_sources_are_cut(form, tokenizer):
    model = connected(tokenizer, form, search=BeamSearch(beams=1, max_new_tokens=8))
    with pytest.warns(UserWarning, match="1 of 2 texts are longer"):
        outputs = model.predict(["the dog", "the small dog " * 60])
    assert len(outputs) == 2


@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoint_holds_everything_and_a_training_resumes_to_the_bit(form, tmp_path):
    settings = {"dropout": 0.1, "optimization": Optimization(schedule="constant", warmup=0)}
    whole = task(form, **settings)
    fitted(whole, tmp_path, steps=6)
    half = task(form, **settings)
    trainer = fitted(half, tmp_path, steps=3)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    again = SequenceToSequence.load_from_checkpoint(tmp_path / "half.ckpt")
    assert again.search == half.search and again.causal == half.causal
    assert again.predict(["the dog sees"]) == half.predict(["the dog sees"])
    resumed = task(form, **settings)
    trainer = trainer_for(tmp_path, max_steps=6, max_epochs=-1, limit_val_batches=0, gradient_clip_val=1.0)
    trainer.fit(resumed, datamodule=data(batch_size=32), ckpt_path=str(tmp_path / "half.ckpt"))
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_only_its_encoder_can_be_exported(tokenizer):
    message = "no class for SequenceToSequence: export its encoder alone with --format sentence-transformers"
    with pytest.raises(UserError, match=message):
        stock_model(connected(tokenizer, "encoder_decoder"))


def test_bad_settings_are_refused_in_one_line(tmp_path):
    trainer = trainer_for(tmp_path, max_steps=1)
    with pytest.raises(UserError, match="reads pair rows, not sentence ones: set data.unit to pair"):
        trainer.fit(task(), datamodule=data(unit="sentence"))
    with pytest.raises(
        UserError, match="form 'both' is unknown.*; dropout of the decoder .*; decoded must be 1 or more"
    ):
        task("both", dropout=-0.1, decoded=0)
