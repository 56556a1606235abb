"""Classification of texts and pairs: losses, metrics, predictions, and what is refused."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, matthews_corrcoef, multilabel_confusion_matrix
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional as F
from transformers import AutoModel, BertConfig, BertModel, BertTokenizerFast, GPT2Config

from ssl_nlp.corpora import Document
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.tokenizer import Tokenizer, load_pretrained
from ssl_nlp.encoders import PretrainedEncoder, Trained
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.methods import CausalLM
from ssl_nlp.tasks import Classification
from ssl_nlp.tasks.class_scores import several_class_result
from ssl_nlp.training import Optimization
from tests.tasks.corpora import TOPICS, Topics, connected, fitted, tiny, topics
from tests.tasks.made import data_of


def classification(encoder=None, **settings):
    return Classification(encoder or tiny(), optimization=Optimization(learning_rate=0.01), **settings)


def test_it_learns_the_classes_of_the_data_and_reports_their_accuracy(tmp_path):
    task, data = classification(), topics()
    trainer = fitted(task, data, tmp_path)
    assert task.classes == ["animals", "fruits"]
    trainer = fitted(task, data, tmp_path, limit_val_batches=1.0)
    [scores] = trainer.validate(task, datamodule=data, verbose=False)
    assert scores["val/accuracy"] == scores["val/macro_f1"] == scores["val/mcc"] == 1.0
    assert task.last_result.primary == 1.0
    assert task.last_result.details["confusion"] == {"animals": [8, 0], "fruits": [0, 8]}


def test_it_tells_the_second_text_of_a_pair_from_the_first(tmp_path):
    task, data = classification(), topics(pairs=True)
    fitted(task, data, tmp_path, steps=250)
    documents = [*Topics(pairs=True).documents("valid")]
    predictions = task.predict([(document.text, document.pair) for document in documents])
    assert np.mean([document.label == said for document, said in zip(documents, predictions, strict=True)]) == 1.0


def test_it_learns_several_classes_of_a_text(tmp_path):
    task, data = classification(several=True), topics("classes")
    trainer = fitted(task, data, tmp_path, steps=150)
    trainer = fitted(task, data, tmp_path, steps=1, limit_val_batches=1.0)
    [scores] = trainer.validate(task, datamodule=data, verbose=False)
    assert scores["val/micro_f1"] == scores["val/accuracy"] == 1.0
    [some] = task.predict_records([Topics("classes").document(0)])
    assert some["prediction"] == ["animals", "even"] == list(some["label"])
    assert set(some["probabilities"]) == {"animals", "even", "fruits"}


def test_a_checkpoint_holds_the_classes_and_what_is_read(tmp_path):
    task, data = classification(), topics(pairs=True)
    fitted(task, data, tmp_path, steps=2).save_checkpoint(tmp_path / "a.ckpt")
    again = Classification.load_from_checkpoint(tmp_path / "a.ckpt")
    assert again.classes == ["animals", "fruits"]
    pairs = [("a cat", "an apple"), ("a pear and a plum", "a dog")]
    assert again.pairs and again.predict_records([*map(document, pairs)]) == task.predict_records(
        [*map(document, pairs)]
    )


def document(pair):
    return Document(pair[0], pair=pair[1])


# ----------------------------------------------------------------------------------------------------------------- losses


def test_the_loss_is_the_cross_entropy_of_the_texts_that_have_a_label():
    task = connected(classification(), topics())
    batch = next(iter(topics().val_dataloader()))
    batch.labels[0] = IGNORE_INDEX
    loss = task.loss(batch).terms["classification"]
    assert loss.targets == 7
    torch.testing.assert_close(loss.total / 7, F.cross_entropy(task.outputs(batch)[1:], batch.labels[1:]))


def test_a_class_whose_name_is_a_number_has_the_weight_that_yaml_reads_for_a_number():
    data = data_of([Document(f"text {n}", str(n % 2)) for n in range(20)], labels="class")
    assert connected(classification(class_weights={1: 3.0}), data).weights.tolist() == [1.0, 3.0]


def test_the_pair_of_a_document_does_not_shorten_a_text_that_is_read_alone(tmp_path):
    data = topics(pairs=True, unit="text", length=8)
    task = connected(classification(), data)
    documents = [Document("a cat and a dog and a cat and a dog", pair=pair) for pair in (None, "a pear")]
    assert task.predict_records(documents[1:], data=data)[0]["probabilities"] == pytest.approx(
        task.predict_records(documents[:1], data=data)[0]["probabilities"]
    )


def test_micro_f1_follows_from_counts_of_each_text():
    found = several_class_result([([0, 1], [0]), ([], [2]), ([1], [1])], ["a", "b", "c"])
    assert found.items.tolist() == [[1, 1, 2], [0, 1, 0], [1, 1, 1]]
    assert statistic_of(found.items, found.statistic) == pytest.approx(found.primary)
    assert found.primary == pytest.approx(2 / 3)


def test_several_classes_are_counted_as_scikit_learn_counts_them():
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 2, (2, 40, 3))
    items = [tuple(np.flatnonzero(row).tolist() for row in pair) for pair in zip(gold, predicted, strict=True)]
    found = several_class_result(items, ["a", "b", "c"])
    assert [*found.details["confusion"]] == ["a", "b", "c"]
    assert [*found.details["confusion"].values()] == multilabel_confusion_matrix(gold, predicted).tolist()
    assert found.metrics["mcc"] == matthews_corrcoef(gold.flatten(), predicted.flatten())
    assert found.metrics["accuracy"] == accuracy_score(gold, predicted)
    alone = several_class_result([([0], [0]), ([], [0]), ([], [])], ["a"])
    assert alone.details["confusion"] == {"a": [[1, 1], [0, 1]]}
    assert np.isnan(several_class_result([], ["a"]).metrics["mcc"])


def test_the_loss_of_several_classes_is_the_binary_cross_entropy_of_each():
    task = connected(classification(several=True, class_weights={"even": 3.0}), topics("classes"))
    batch = next(iter(topics("classes").val_dataloader()))
    batch.labels[0] = torch.nan
    outputs, total = task.outputs(batch).double(), 0.0
    for row, labels in zip(outputs[1:], batch.labels[1:], strict=True):
        for logit, label, weight in zip(row, labels, [1.0, 3.0, 1.0], strict=True):
            probability = 1 / (1 + torch.exp(-logit))
            total -= (weight * torch.log(probability) if label else torch.log(1 - probability)) / 3
    loss = task.loss(batch).terms["classification"]
    assert loss.targets == 7
    torch.testing.assert_close(loss.total.double(), total)


def test_balanced_weights_are_those_of_scikit_learn():
    """Rows are few: one class has 3 texts and the other 60."""
    data = topics()
    documents = [*Topics().documents("train")]
    data.corpus.documents = lambda split: iter(documents[::2] + documents[1:6:2])
    data.corpus.fingerprint = lambda: "63 of Topics"
    task = connected(classification(class_weights="balanced"), data)
    labels = ["animals"] * 60 + ["fruits"] * 3
    expected = compute_class_weight("balanced", classes=np.array(["animals", "fruits"]), y=labels)
    torch.testing.assert_close(task.weights, torch.from_numpy(expected).float())
    batch = next(iter(data.val_dataloader()))
    loss = F.cross_entropy(task.outputs(batch), batch.labels, task.weights, reduction="none").sum()
    torch.testing.assert_close(task.loss(batch).terms["classification"].total, loss)


def test_balanced_weights_of_several_classes_are_the_ratio_of_texts_without_to_those_with():
    task = connected(classification(several=True, class_weights="balanced"), topics("classes"))
    assert task.weights.tolist() == pytest.approx([1.0, 48 / 72, 1.0])


# ------------------------------------------------------------------------------------------------------------ predictions


def test_predictions_keep_the_order_of_the_texts_and_do_not_depend_on_the_batch(tmp_path):
    task = classification()
    fitted(task, topics(), tmp_path, steps=20)
    documents = [Topics().document(number) for number in (5, 2, 1, 8)]
    together, alone = task.predict_records(documents), [task.predict_records([one])[0] for one in documents]
    for one, other, given in zip(together, alone, documents, strict=True):
        assert one["text"] == given.text and one["label"] == given.label
        assert one["prediction"] == other["prediction"] == max(one["probabilities"], key=one["probabilities"].get)
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
        assert sum(one["probabilities"].values()) == pytest.approx(1.0)
    assert task.predict([one.text for one in documents]) == [one["prediction"] for one in together]
    assert task.predict([]) == []


def test_the_pooling_is_that_of_the_option():
    picks = {"mean": lambda h: h.mean(0), "max": lambda h: h.amax(0), "first": lambda h: h[0], "last": lambda h: h[-1]}
    for pooling, pick in picks.items():
        task = connected(classification(pooling=pooling), topics())
        batch = next(task.batches_of([Topics().document(0)], 1))[1]
        torch.testing.assert_close(task.pooled(batch)[0], pick(task.encoder(batch)[0]))


def test_a_causal_encoder_is_read_causally_at_its_last_token(tmp_path):
    """As it was made (GPT-2), trained (a checkpoint of CausalLM) or as the option says; a checkpoint remembers it."""
    language_model = CausalLM(tiny())
    fitted(language_model, topics(None), tmp_path, steps=1).save_checkpoint(tmp_path / "lm.ckpt")
    AutoModel.from_config(GPT2Config(vocab_size=320, n_embd=16, n_layer=1, n_head=2, n_positions=64)).save_pretrained(
        tmp_path
    )
    tokenizer = topics().tokenizer.serialize()
    for encoder, causal in (
        (PretrainedEncoder(str(tmp_path)), None),
        (Trained(str(tmp_path / "lm.ckpt")), None),
        (tiny(), True),
    ):
        data = topics()
        data._tokenizer = Tokenizer(tokenizer)
        task = connected(classification(encoder, causal=causal), data)
        assert task.encoder.causal and task.pooling == "last"
        texts = ["cat dog apple", "cat dog pear"]
        states = task.states(next(task.batches_of([Document(text) for text in texts], 2))[1])
        torch.testing.assert_close(states[0, 0], states[1, 0])
        saved = {"state_dict": task.state_dict()}
        task.on_save_checkpoint(saved)
        again = Classification.from_saved(saved, "a.ckpt")
        assert again.encoder.causal and again.predict(texts) == task.predict(texts)
    bidirectional = connected(classification(Trained(str(tmp_path / "lm.ckpt")), causal=False), topics())
    assert not bidirectional.encoder.causal and bidirectional.pooling == "mean"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A tiny BERT with random weights, whose two embeddings of parts differ, and its tokenizer."""
    folder = tmp_path_factory.mktemp("bert")
    words = [*" ".join(TOPICS.values()).split(), *map(str, range(10)), *(f"##{digit}" for digit in range(10))]
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    torch.manual_seed(0)
    BertModel(BertConfig(vocab_size=len(words) + 5, max_position_embeddings=64, **size)).save_pretrained(folder)
    return str(folder)


def test_a_pair_is_read_as_bert_reads_it(bert):
    """With BERT's own token types: the vectors are those that BERT gives its own tokenizer's pairs."""
    data = topics(pairs=True)
    task = classification(PretrainedEncoder(bert), pooling="mean")
    data._tokenizer = load_pretrained(bert)
    connected(task, data)
    documents = [Topics(pairs=True).document(number) for number in range(4)]
    [(places, batch)] = task.batches_of(documents, 4)
    tokenizer, model = BertTokenizerFast.from_pretrained(bert), BertModel.from_pretrained(bert).eval()
    pairs = [(documents[place].text, documents[place].pair) for place in places]
    inputs = tokenizer([one for one, _ in pairs], [two for _, two in pairs], padding=True, return_tensors="pt")
    assert inputs["token_type_ids"].any()
    states = model(**inputs).last_hidden_state
    mask = inputs["attention_mask"].unsqueeze(-1)
    torch.testing.assert_close(task.pooled(batch), (states * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=1e-5)


# ---------------------------------------------------------------------------------------------------------------- refusals


def test_data_that_do_not_fit_are_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="set data.labels to 'class'"):
        connected(classification(), topics(labels=None))
    with pytest.raises(UserError, match="set data.labels to 'classes'"):
        connected(classification(several=True), topics())
    with pytest.raises(UserError, match="the field that holds them, or model.several to true"):
        connected(classification(), topics("classes"))
    with pytest.raises(UserError, match="leave data.classes out"):
        connected(classification(classes=["fruits", "animals"]), topics(classes=["animals", "fruits"]))
    with pytest.raises(UserError, match="reads pairs of texts, and data.unit is 'sentence': set it to 'pair'"):
        connected(classification(pairs=True), topics())
    with pytest.raises(UserError, match="there is no class 'birds': use animals, fruits"):
        connected(classification(class_weights={"birds": 2.0}), topics())
    with pytest.raises(UserError, match="the classes of the Classification name one twice"):
        classification(classes=["animals", "animals"])
    with pytest.raises(UserError, match="class_weights must be numbers above 0"):
        classification(class_weights={"animals": float("nan")})
    task = connected(classification(), topics())
    with pytest.raises(UserError, match="some texts have a pair"):
        task.predict(["one", ("one", "two")])
    with pytest.raises(UserError, match="text 1 is 3: give a text"):
        task.predict(["one", 3])
