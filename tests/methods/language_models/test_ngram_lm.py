"""The n-gram language model: what it counts in a training, and what follows from the counts."""

import copy
import json
import math
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from ssl_nlp.commands import ngram_baseline
from ssl_nlp.corpora import HubDataset
from ssl_nlp.data import Blocks, ContinualDataModule, TextDataModule, Tokenizer, TokenizerSettings
from ssl_nlp.data.batch import IGNORE_INDEX
from ssl_nlp.data.store import open_store
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Trained, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import FreeGeneration
from ssl_nlp.evaluation.capabilities import Embedder, Scorer, WordScorer, lacks
from ssl_nlp.methods import Method, MultiObjective, NGramLM
from ssl_nlp.methods.language_models.ngram_lm import rows_of
from ssl_nlp.modules.kneser_ney import KneserNey
from ssl_nlp.objectives.scores import Prompt
from ssl_nlp.training.callbacks import CollapseMonitor, Throughput
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import CONFIGS
from tests.methods.validation import validate_texts

CORPUS = ListCorpus(random_texts(64), random_texts(20, seed=1))
PAIRS = ListCorpus([*zip(random_texts(12), random_texts(12, seed=1), strict=True)])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320), CORPUS)


def data(corpus: ListCorpus = CORPUS, unit: str = "sentence") -> TextDataModule:
    return TextDataModule(corpus, TokenizerSettings(vocab_size=320), unit, length=128, batch_size=4, seed=0)


def trainer(folder: Path, **arguments) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return Trainer(default_root_dir=folder, accelerator="cpu", num_sanity_val_steps=0, **(quiet | arguments))


def documents(tokenizer: Tokenizer, split: str) -> list[np.ndarray]:
    """The rows that are to be counted: each document from its start token to the one that ends it."""
    framed = tokenizer.encode([document.text for document in CORPUS.documents(split)])
    return [np.array([*ids, tokenizer.end_id]) for ids, _ in framed]


def counted(method: NGramLM) -> list[np.ndarray]:
    return [*method.model().keys, *method.model().counts]


def assert_equal(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> NGramLM:
    """A pass over the text, whose 64 documents fit into 16 batches, and a second one."""
    method = NGramLM(order=4)
    trainer(tmp_path_factory.mktemp("trained"), max_epochs=2, enable_checkpointing=False).fit(method, data())
    return method.eval()


def test_one_pass_counts_each_document_once_and_the_second_pass_nothing(trained, tokenizer):
    expected = KneserNey.fit(documents(tokenizer, "train"), tokenizer.vocab_size, 4)
    assert_equal(counted(trained), [*expected.keys, *expected.counts])


def test_its_configuration_counts_what_the_5_gram_beside_language_models_counts(tokenizer, tmp_path):
    settings = yaml.safe_load((CONFIGS / "ngram_lm.yaml").read_text())["data"]["init_args"]
    long = ListCorpus([" ".join(random_texts(30, seed=seed)) for seed in range(5)], random_texts(4))
    sizes = {name: settings[name] for name in ("unit", "length", "batch_size")}
    module = TextDataModule(long, TokenizerSettings(vocab_size=320), **sizes, seed=0)
    module.continue_with(tokenizer, {})
    method = NGramLM(order=5)
    trainer(tmp_path, max_epochs=1, enable_checkpointing=False).fit(method, module)
    assert np.diff(module.store("train").starts).min() > 128
    assert_equal(counted(method), counted(ngram_baseline.counted(module)))


def test_the_rows_of_packed_batches_are_the_pieces_of_documents_with_the_token_that_follows(tokenizer):
    blocks = Blocks().rows(open_store(CORPUS, "train", tokenizer, Blocks()), tokenizer, 24)
    batch = blocks[range(len(blocks))]
    expected = []
    for row in range(len(batch)):
        for segment in sorted({*batch.segment_ids[row].tolist()} - {0}):
            here = batch.segment_ids[row] == segment
            after = [token for token in batch.next_ids[row, here].tolist()[-1:] if token != IGNORE_INDEX]
            expected.append([*batch.input_ids[row, here].tolist(), *after])
    found = [*rows_of(batch)]
    assert [row.tolist() for row in found] == expected
    assert sum(len(row) - 1 for row in found) == int((batch.next_ids != IGNORE_INDEX).sum())


def test_before_any_text_all_tokens_are_equally_likely_and_64_sentences_are_learned(trained, tokenizer):
    train = [document.text for document in CORPUS.documents("train")]
    untrained = NGramLM(order=4)
    untrained.connect(tokenizer)
    nats = [
        float(method.score(train).nats.sum() / method.score(train).targets.sum()) for method in (untrained, trained)
    ]
    assert nats[0] == pytest.approx(math.log(tokenizer.vocab_size))
    assert nats[1] < 0.5 * nats[0]


@pytest.mark.parametrize("epochs", [{"max_steps": 40}, {"max_epochs": 4, "limit_train_batches": 10}])
def test_one_pass_over_a_stream_is_counted_whatever_the_trainer_calls_an_epoch(epochs, tmp_path):
    texts = random_texts(30)
    (tmp_path / "train.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    stream = HubDataset(str(tmp_path), valid=0.1, test=None, streaming=True, window=5)
    module = TextDataModule(stream, TokenizerSettings(vocab_size=320), "block", length=24, batch_size=2, seed=0)
    read: list[np.ndarray] = []

    class Counted(NGramLM):
        def count(self, rows):
            read.extend(rows := [*rows])
            super().count(rows)

    method = Counted(order=2)
    trainer(tmp_path, limit_val_batches=0, enable_checkpointing=False, **epochs).fit(method, module)
    framed = module.tokenizer.encode([document.text for document in stream.documents("train")])
    once = np.bincount([*chain(*(ids for ids, _ in framed))], minlength=method.vocab_size)
    found = np.bincount(np.concatenate([row[1:] for row in read]), minlength=method.vocab_size)
    assert (found <= once).all()
    assert once.sum() - 2 * 24 < found.sum() <= once.sum()  # without the batch in which the next pass begins


def test_a_validation_logs_the_numbers_of_a_language_model(trained, tokenizer, tmp_path):
    logged = trainer(tmp_path).validate(trained, data(), verbose=False)[0]
    rows = documents(tokenizer, "valid")
    nats = -trained.model().log_probs(*rows).sum()
    tokens = sum(len(row) - 1 for row in rows)
    size = sum(len(document.text.encode()) for document in CORPUS.documents("valid"))
    assert logged["val/loss"] == pytest.approx(nats / tokens)
    assert logged["val/perplexity"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert logged["val/bits_per_byte"] == pytest.approx(nats / math.log(2) / size)


def test_scores_are_those_of_a_validation(trained):
    texts = [*random_texts(7, seed=2), "", "ü"]
    scores = trained.score(texts, batch_size=4)
    found = validate_texts(trained, texts, batch_size=4)
    assert scores.kind == "likelihood"
    assert float(scores.nats.sum() / scores.targets.sum()) == pytest.approx(found["loss"])
    assert torch.equal(scores.targets, scores.all_targets)
    assert [float(trained.score([text]).nats) for text in texts] == pytest.approx(scores.nats.tolist())


def test_the_loss_in_training_is_that_under_the_counts_of_the_last_validation(tokenizer, tmp_path):
    read: list[np.ndarray] = []

    class Losses(NGramLM):
        def training_step(self, batch, batch_idx):
            rows = [*rows_of(batch)]
            loss = super().training_step(batch, batch_idx)
            before = KneserNey.fit(read[: len(read) - len(read) % 20], self.vocab_size, self.order)
            assert loss.item() == pytest.approx(-before.log_probs(*rows).mean())
            read.extend(rows)
            return loss

    run = trainer(tmp_path, max_epochs=1, val_check_interval=5, limit_val_batches=1)  # each 20 rows
    run.fit(Losses(order=2), data())
    assert run.global_step == 16


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize("at", [6, 16])
def test_a_run_resumed_within_a_pass_or_at_its_end_counts_the_same(at, tmp_path):
    def fit(checkpoint: Path | None = None) -> NGramLM:
        method = NGramLM(order=3)
        keep = ModelCheckpoint(tmp_path, "{step}", save_top_k=-1, every_n_train_steps=at)
        run = trainer(tmp_path, max_steps=20, val_check_interval=4, callbacks=[] if checkpoint else [keep])
        run.fit(method, data(), ckpt_path=checkpoint, weights_only=True)
        return method

    whole = fit()
    half = Method.load_from_checkpoint(tmp_path / f"step={at}.ckpt")
    resumed = fit(tmp_path / f"step={at}.ckpt")
    for part in ("validated", "recent"):
        states = [method.get_extra_state()[part] for method in (whole, resumed)]
        assert_equal(*([*state["keys"], *state["counts"]] for state in states))
    assert_equal(counted(whole), counted(resumed))
    assert (half.model().size < whole.model().size) == (at < 16)


def test_a_checkpoint_holds_all_and_a_training_goes_on_from_it(trained, tokenizer, tmp_path):
    saved = {"state_dict": trained.state_dict(), "global_step": 0}
    trained.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "a.ckpt")
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert isinstance(loaded, NGramLM)
    assert_equal(counted(loaded), counted(trained))
    texts = random_texts(5, seed=3)
    assert torch.equal(loaded.score(texts).nats, trained.score(texts).nats)
    more = copy.deepcopy(loaded)
    trainer(tmp_path, max_epochs=1, enable_checkpointing=False).fit(more, data())
    expected = KneserNey.fit(documents(tokenizer, "train") * 2, tokenizer.vocab_size, 4)
    assert_equal(counted(more), [*expected.keys, *expected.counts])
    assert_equal(counted(loaded), counted(trained))


def test_a_checkpoint_does_not_hold_the_text(tokenizer):
    """Texts that have the same n-grams in another order leave the same checkpoint."""
    methods = [NGramLM(order=2) for _ in range(2)]
    for method, rows in zip(methods, ([[0, 1, 2, 1, 3, 1, 4], [0, 5]], [[0, 5], [0, 1, 3, 1, 2, 1, 4]]), strict=True):
        method.connect(tokenizer)
        method.count(map(np.array, rows))
    one, other = (method.get_extra_state()["recent"] for method in methods)
    assert one.keys() == {"keys", "counts"}
    assert_equal([*one["keys"], *one["counts"]], [*other["keys"], *other["counts"]])


@pytest.mark.parametrize(
    "change",
    [
        lambda tables: tables | {"keys": [part[:-1] for part in tables["keys"]]},
        lambda tables: tables | {"counts": [part[:-1] for part in tables["counts"]]},
        lambda tables: tables | {"counts": tables["counts"][:-1], "keys": tables["keys"][:-1]},
        lambda tables: tables | {"counts": [-part for part in tables["counts"]]},
        lambda tables: tables | {"keys": [part.flip(0) for part in tables["keys"]]},
        lambda tables: tables | {"keys": [torch.cat([part[:-1], torch.tensor([2**62])]) for part in tables["keys"]]},
        lambda tables: {},
        lambda tables: None,
    ],
)
def test_a_broken_checkpoint_is_refused_in_one_line(trained, change, tmp_path):
    saved = {"state_dict": trained.state_dict(), "global_step": 0}
    trained.on_save_checkpoint(saved)
    state = saved["state_dict"]["_extra_state"]
    saved["state_dict"]["_extra_state"] = state | {"validated": change(state["validated"])}
    torch.save(saved, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match=r"a.ckpt: its weights do not fit its NGramLM \([^\n]*\)$"):
        Method.load_from_checkpoint(tmp_path / "a.ckpt")


def test_its_size_is_the_number_of_its_n_grams(trained, tokenizer):
    rows = [tuple(row.tolist()) for row in documents(tokenizer, "train")]
    # The start of a text alone is not one: nothing predicts it.
    grams = {row[start : start + n] for row in rows for n in range(1, 5) for start in range(n == 1, len(row) - n + 1)}
    assert trained.parameter_counts() == (len(grams), len(grams))


def test_words_of_prompts_are_scored_token_by_token_with_the_text_after_them(trained, tokenizer):
    train = CORPUS.texts["train"]
    prompts = [
        Prompt((f"{train[0]} ",), train[1][:20], train[1][20:40], ("a", "the b")),
        Prompt((), "", "", ("c", "d")),
    ]
    found = trained.score_words(prompts)
    assert found.kind == "likelihood" and found.nats.shape == (2, 2) and trained.score_words([]).nats.shape == (0, 0)
    for number, prompt in enumerate(prompts):
        before = "".join(prompt.examples) + prompt.before
        for place, word in enumerate(prompt.words):
            [(ids, _)] = tokenizer.encode([before + word + prompt.after])
            row = ids[: len(ids) - len(tokenizer.suffix)]
            size = int(found.tokens[number, place])
            chances = [trained.model().next_probs(np.array(row[:i]))[row[i]] for i in range(len(row) - size, len(row))]
            assert float(found.nats[number, place]) == pytest.approx(np.log(chances).sum())
            assert int(found.bytes[number, place]) == len((word + prompt.after).encode())
    assert lacks(trained, WordScorer) is None


def test_it_continues_a_text_that_it_knows_and_draws_texts_from_nothing(trained, tokenizer):
    words = CORPUS.texts["train"][0].split(" ")
    beginning, rest = " ".join(words[: len(words) // 2]), " " + " ".join(words[len(words) // 2 :])
    known = NGramLM(order=5)
    known.connect(tokenizer)
    known.count(documents(tokenizer, "train")[:1])
    assert known.generate([beginning], temperature=0) == [rest]
    drawn = trained.draw(5, max_new_tokens=9, seed=1)
    assert drawn == trained.generate([""] * 5, max_new_tokens=9, seed=1) != trained.draw(5, max_new_tokens=9, seed=2)
    assert len(drawn) == 5
    measured = FreeGeneration(drawn, drawn, drawn)(trained).metrics
    assert all(map(math.isfinite, measured.values()))
    assert trained.generate([]) == trained.draw(0) == []
    with pytest.raises(UserError, match="temperature must be 0 or more, not -1"):
        trained.generate(["a"], temperature=-1)
    with pytest.raises(UserError, match="number must be 0 or more, not -1"):
        trained.draw(-1)


def test_it_writes_without_a_token_in_front_of_texts(tokenizer):
    bare = Tokenizer(tokenizer.serialize().replace('"prefix": [2], "suffix": []', '"prefix": [], "suffix": [2]'))
    method = NGramLM(order=2)
    method.connect(bare)
    method.count([np.array(ids) for ids, _ in bare.encode(CORPUS.texts["train"])])
    assert method.generate([""], 9, seed=0) == method.draw(1, 9, seed=0) != method.draw(1, 9, seed=1)


def test_it_embeds_nothing_and_says_so(trained, tmp_path):
    assert lacks(trained, Embedder) == lacks(NGramLM(), Embedder) == "NGramLM embeds no text"
    assert lacks(trained, Scorer) is None
    for pooling in (None, "sif"):
        with pytest.raises(UserError, match="NGramLM has no encoder and embeds no text"):
            trained.embed(["a text"], pooling=pooling)
    saved = {"state_dict": trained.state_dict(), "global_step": 0}
    trained.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="its NGramLM has no encoder to start from: name another run"):
        Trained(str(tmp_path / "a.ckpt"))
    with pytest.raises(UserError, match="NGramLM has no encoder to share and must be trained alone"):
        MultiObjective(Transformer("tiny"), [NGramLM()])


def test_it_trains_with_the_callbacks_of_a_run(tmp_path):
    often = {"limit_val_batches": 1, "val_check_interval": 2, "log_every_n_steps": 1}
    run = trainer(tmp_path, max_steps=2, callbacks=[Throughput(), CollapseMonitor()], **often)
    run.fit(NGramLM(), data(PAIRS, "pair"))
    assert run.callback_metrics["train/flops"] == 0
    assert not any("learning_rate" in name for name in run.callback_metrics)  # nothing learns at one
    assert not any("spread" in name for name in run.callback_metrics)


def test_bad_settings_are_refused_in_one_line(trained):
    with pytest.raises(UserError, match="order must be 1 or more, not 0"):
        NGramLM(order=0)
    parts = partial(ContinualDataModule, CORPUS, unit="text", length=24)
    trained.check_data(parts(epochs_per_part=1))
    for given in ({"epochs_per_part": 2}, {"steps_per_part": 9}, {"replay": 0.1}, {"joint": True}):
        with pytest.raises(UserError, match=f"^NGramLM counts each text once: leave data.{next(iter(given))} out$"):
            trained.check_data(parts(**given))
