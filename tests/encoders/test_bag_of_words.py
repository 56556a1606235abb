"""Token vectors as an encoder: each state depends on its own token alone, and methods and tasks train it."""

from dataclasses import replace

import pytest
import torch

from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders import BagOfWords, Trained
from ssl_nlp.encoders.adapters import LoRA
from ssl_nlp.errors import UserError
from ssl_nlp.methods import Autoencoder, CausalLM, Method, SimCLR
from ssl_nlp.tasks import Classification
from ssl_nlp.training import Optimization
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import save_untrained
from tests.methods.test_every_method import trainer
from tests.tasks import made
from tests.tasks.corpora import topics

VOCAB, PAD = 50, 3
CORPUS = ListCorpus(random_texts(64, longest=10))


def build(**arguments) -> BagOfWords:
    torch.manual_seed(0)
    encoder = BagOfWords(**{"dim": 16, **arguments})
    encoder.build(VOCAB, PAD, causal=False)
    return encoder.eval()


def rows(*ids: list[int]) -> TokenBatch:
    tokens = torch.tensor(ids)
    return TokenBatch(tokens, torch.ones_like(tokens), packed=False, padded=False)


def data(unit: str = "sentence") -> TextDataModule:
    return TextDataModule(CORPUS, TokenizerSettings(vocab_size=300), unit, length=40, batch_size=8, seed=0)


def test_a_state_is_the_vector_of_its_token_whatever_stands_around_it():
    encoder = build()
    batch = rows([4, 5, 6], [7, 5, 4])
    for causal in (None, False, True):
        states = encoder(replace(batch, causal=causal))
        assert torch.equal(states, encoder.embedding.weight[batch.input_ids])
    added = torch.randn(2, 1, 16)
    assert torch.equal(encoder(batch, added=added), states + added)


def test_vectors_begin_in_their_range_and_that_of_padding_is_zero():
    weight = build(dim=300).embedding.weight
    assert weight.shape == (VOCAB, 300)
    assert not weight[PAD].any()
    assert 0.0033 < weight.abs().max() <= 1 / 300
    assert BagOfWords().dim == 300 and BagOfWords().max_length == 8192


def test_hparams_rebuild_the_encoder():
    encoder = build(dropout=0.2, max_length=9, freeze="embeddings")
    again = BagOfWords(**encoder.hparams())
    again.build(VOCAB, PAD, causal=False)
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again.eval()(rows([4, 5])), encoder(rows([4, 5])))
    assert again.hparams() == encoder.hparams()
    assert not again.embedding.weight.requires_grad


@pytest.mark.parametrize("arguments", [{"dim": 0}, {"dropout": 1.0}, {"max_length": 0}])
def test_bad_settings_are_refused(arguments):
    [(name, value)] = arguments.items()
    with pytest.raises(UserError, match=f"encoder: {name} must be .*, not {value}"):
        BagOfWords(**arguments)


def test_a_row_longer_than_it_takes_and_an_adapter_are_refused(tmp_path):
    with pytest.raises(UserError, match="a row of 3 tokens is longer than the encoder's max_length of 2"):
        build(max_length=2)(rows([4, 5, 6]))
    method = SimCLR(BagOfWords(dim=8))
    path = save_untrained(method, data().tokenizer, tmp_path / "a.ckpt")
    adapted = SimCLR(Trained(str(path), adapter=LoRA()))
    with pytest.raises(UserError, match="BagOfWords has no layers that an adapter could change"):
        adapted.connect(method.tokenizer)


def test_a_language_model_over_it_sees_the_last_token_alone():
    method = CausalLM(BagOfWords(dim=16))
    module = data()
    torch.manual_seed(0)
    method.connect(module.tokenizer)
    ends = method.generate(["the dog sees", "a house sees"], max_new_tokens=8, temperature=0.0)
    assert ends[0] == ends[1]
    assert method.generate(["sees"], max_new_tokens=8, temperature=0.0) != method.generate(["."], temperature=0.0)


@pytest.mark.parametrize("kind", [SimCLR, Autoencoder, CausalLM])
def test_methods_train_it_and_their_checkpoints_start_others(kind, tmp_path):
    method = kind(BagOfWords(dim=16, dropout=0.1), optimization=Optimization(learning_rate=0.01, warmup=0))
    run = trainer(tmp_path, 40, limit_val_batches=4, val_check_interval=8, num_sanity_val_steps=1)
    module = data()
    run.validate(method, module, verbose=False)
    before = float(run.callback_metrics["val/loss"])
    run.fit(method, module)
    assert float(run.callback_metrics["val/loss"]) < before - 0.1
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(loaded.embed(["the dog sees"]), method.embed(["the dog sees"]))
    other = SimCLR(Trained(str(tmp_path / "a.ckpt")))
    other.connect(module.tokenizer)
    assert torch.equal(other.encoder.embedding.weight, method.encoder.embedding.weight)


def test_it_classifies_as_fasttext_does_with_the_mean_vector_and_one_layer(tmp_path):
    task = Classification(BagOfWords(dim=16), optimization=made.FAST)
    scores = made.fitted(task, topics(), tmp_path, steps=60)
    assert scores["val/accuracy"] == 1
    texts = ["cat dog horse 3", "apple pear"]
    vectors = torch.stack(
        [task.encoder.embedding.weight[ids].mean(dim=0) for ids, _ in task.tokenizer.encode(texts)]
    )  # padding does not count
    expected = (vectors @ task.head.classifier.weight.T).softmax(dim=1)
    found = [
        list(record["probabilities"].values())
        for record in task.predict_records([*map(task.document_of_line, texts, range(2))])
    ]
    torch.testing.assert_close(torch.tensor(found), expected)
