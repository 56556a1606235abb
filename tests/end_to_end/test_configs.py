"""Every file in configs/ runs, at a small size."""

import json
from pathlib import Path

import pytest
import yaml

from ssl_nlp.commands.fit import plan_fit
from ssl_nlp.corpora import HubDataset
from ssl_nlp.corpora.digests import digest_of_text
from ssl_nlp.evaluation import Drawer, Generator, MinimalPairs, get_suite
from ssl_nlp.evaluation.capabilities import Infiller, Searcher
from ssl_nlp.methods import Method, Optimization
from ssl_nlp.runs.metrics_csv import read_metrics
from ssl_nlp.terminal import printable
from ssl_nlp.training.optimization import unusual_for_pretrained
from tests.corpus import random_texts
from tests.end_to_end.cli import CONFIGS, run, small, tiny_encoder, write_texts
from tests.end_to_end.suites import write_suites

pytestmark = pytest.mark.slow

METHODS = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "ngram_lm")  # which has no encoder
# What a method needs beside a small corpus: to tell four texts apart teaches nothing that lasts, and with so few texts the
# reconstruction of a VAE gains less than its KL takes of the nats that are free.
MORE = {method: ["--data.batch_size=32"] for method in ("moco", "multi_objective", "simclr", "vae")}
MORE |= {"glove": ["--data.batch_size=256"]}
# All words are frequent. Subsampling would leave a seventh of them, with other shares than those of a validation.
MORE |= {method: ["--model.subsample=0"] for method in ("cbow", "skip_gram")}


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_validates_and_shows_samples_with_all_weights_in_another_precision(method, precision, tmp_path):
    short = ["--trainer.max_steps=2", "--trainer.limit_val_batches=1", f"--trainer.precision={precision}"]
    command = [
        "fit",
        "--config",
        str(CONFIGS / f"{method}.yaml"),
        *small(write_texts(tmp_path), *short),
        *tiny_encoder(method),
    ]
    assert run(*command, "--run=a") == 0
    assert float(read_metrics(tmp_path / "runs" / "a" / "metrics.csv")[-1]["val/loss"]) > 0


@pytest.mark.parametrize("method", METHODS)
def test_a_method_trains_validates_resumes_its_own_config_and_embeds(method, tmp_path, capfd, recwarn):
    texts = write_texts(tmp_path)
    more = MORE.get(method, [])
    assert run("fit", "--config", str(CONFIGS / f"{method}.yaml"), *small(texts, *more), *tiny_encoder(method)) == 0
    [directory] = tmp_path.glob("runs/[!.]*")
    rows = read_metrics(directory / "metrics.csv")
    losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
    assert len(losses) == 2
    assert losses[1] < losses[0]
    assert {"train/tokens_per_second", "train/mfu", "train/tokens", "train/flops", "train/padding"} <= set(rows[0])
    assert {"val/embedding_spread", "val/effective_rank", "val/alignment", "val/uniformity"} <= set(rows[0])
    kind = type(Method.load_from_checkpoint(directory / "checkpoints" / "last.ckpt"))
    if kind.samples is not Method.samples:
        assert (directory / "samples.jsonl").read_text().count("\n") >= 8
    for name in ("best", "last"):
        loaded = Method.load_from_checkpoint(directory / "checkpoints" / f"{name}.ckpt")
        assert loaded.embed(["some text", "more"]).shape == (2, loaded.embedding_dim)
    assert run("validate", "--run", directory.name) == 0
    assert not [warning for warning in recwarn if "callbacks" in str(warning.message)]  # those of `fit` are not missed
    generate = ["generate", "--checkpoint", str(directory / "checkpoints" / "last.ckpt"), "--seed=1"]
    capfd.readouterr()
    if isinstance(loaded, Generator):
        assert run(*generate, "--prompt=the dog") == 0
        assert capfd.readouterr().out.startswith("the dog")
        assert run(*generate, "--prompt=the dog", "--number=2") == 2
        assert "leave out --number" in capfd.readouterr().err
    elif isinstance(loaded, Drawer):
        assert run(*generate, "--prompt=the dog") == 2
        assert "does not continue prompts" in capfd.readouterr().err
    elif not isinstance(loaded, Searcher):
        assert run(*generate, "--prompt=the dog") == 2
        assert "cannot generate text" in capfd.readouterr().err
    if isinstance(loaded, Drawer):
        assert run(*generate, "--number=2") == 0
        drawn = [printable(text) for text in loaded.draw(2, temperature=0.8, top_p=0.95, seed=1)]
        assert capfd.readouterr().out == "".join(f"{text}\n" for text in drawn)
    if isinstance(loaded, Infiller):
        Path("gaps.txt").write_text("the [MASK] sees\n\n")
        fill = ["fill-mask", "--checkpoint", str(directory / "checkpoints" / "last.ckpt"), "--input=gaps.txt"]
        assert run(*fill) == 0
        assert capfd.readouterr().out.endswith("\n\n")
        assert run(*fill, "--top_k=2") == 2
        assert "leave out --top_k" in capfd.readouterr().err
    # The saved configuration is complete: it is the same run.
    assert run("fit", "--config", str(directory / "config.yaml")) == 2
    assert "is finished" in capfd.readouterr().err
    assert run("validate", "--run", directory.name) == 0
    assert str(losses[-1])[:5] in capfd.readouterr().out
    assert run("test", "--run", directory.name) == 0
    assert run("predict", "--run", directory.name) == 0
    write_suites(tmp_path)
    assert run("evaluate", directory.name, "--config", "mine.yaml") == 0
    suite = json.loads((directory / "evaluation.json").read_text())["suites"]["mine"]
    kind = suite["evaluators"].get("language_modelling", {}).get("details", {}).get("kind")
    assert (kind == "bound") == (method in ("masked_diffusion", "vae"))
    beside = {"5-gram"} if kind in ("likelihood", "bound") else set()  # no other kind can be compared with it
    assert suite["baselines"].keys() == beside | {
        "majority",
        "tfidf",
        "lsa",
        "word_vectors",
        "random_words",
        "random_init",
    }
    assert suite["evaluators"]["animals.geometry"] != suite["baselines"]["random_init"]["animals.geometry"]


def overlays(folder: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / folder).glob("*.yaml"))


def fit_with(overlay: Path, *more: str) -> int:
    """Run an overlay with everything else small. Only `more` overrides what the overlay sets."""
    config = ["fit", "--config", str(CONFIGS / "masked_lm.yaml"), *small("texts.txt"), "--config", str(overlay)]
    short = ["--trainer.max_steps=4", "--trainer.val_check_interval=4", "--trainer.limit_val_batches=1"]
    return run(*config, *short, "--data.batch_size=2", "--data.length=16", "--run", overlay.stem, *more)


@pytest.mark.parametrize("name", ["tiny", "small", "lstm", "text_cnn", "bag_of_words"])
def test_encoder_overlays(name, tmp_path):
    write_texts(tmp_path)
    assert fit_with(CONFIGS / "encoder" / f"{name}.yaml") == 0


@pytest.mark.parametrize("method", ["causal_lm", "masked_lm", "bidirectional_lm"])
def test_the_recurrent_overlay_sees_as_the_method_needs_it(method, tmp_path):
    config = ["--config", method, *small(write_texts(tmp_path)), "--config", "encoder/lstm", "--model.encoder.dim=16"]
    assert run("fit", *config, "--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--run=a") == 0
    encoder = Method.load_from_checkpoint(tmp_path / "runs" / "a" / "checkpoints" / "last.ckpt").encoder
    assert (encoder.causal, encoder.separate) == (method == "causal_lm", method == "bidirectional_lm")


@pytest.mark.parametrize("method", METHODS)
def test_the_pretrained_overlay_brings_rates_for_pretrained_weights(method):
    """The rates of the methods, for new weights, would destroy pretrained ones in a few steps."""
    files = [CONFIGS / f"{method}.yaml", CONFIGS / "encoder" / "bert-base-uncased.yaml"]
    plan = yaml.safe_load(plan_fit([argument for file in files for argument in ("--config", str(file))]))
    optimization = Optimization(**plan["model"]["init_args"]["optimization"])
    assert optimization.optimizer == "adamw" and 2e-5 <= optimization.learning_rate <= 5e-5 and optimization.warmup > 0
    assert unusual_for_pretrained(optimization) is None


def test_base_encoder_overlay(tmp_path):
    write_texts(tmp_path, documents=40)
    assert fit_with(CONFIGS / "encoder" / "base.yaml", "--trainer.max_steps=1") == 0


def test_pretrained_encoder_overlay_with_a_model_of_its_kind(tmp_path):
    from transformers import BertConfig, BertModel, BertTokenizerFast

    write_texts(tmp_path)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "a", "dog", "cat", "sees", "##s", ".", ","]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), **size)).save_pretrained(tmp_path / "bert")
    overlay = CONFIGS / "encoder" / "bert-base-uncased.yaml"
    assert yaml.safe_load(overlay.read_text())["model"]["init_args"]["encoder"]["init_args"]["name"] == overlay.stem
    assert fit_with(overlay, f"--model.encoder.name={tmp_path / 'bert'}") == 0
    checkpoint = tmp_path / "runs" / overlay.stem / "checkpoints" / "last.ckpt"
    (tmp_path / "bert").rename(tmp_path / "gone")  # the checkpoint needs nothing but itself
    assert Method.load_from_checkpoint(checkpoint).embed(["the dog sees"]).shape == (1, 16)


@pytest.mark.parametrize("name", ["cpu", "debug", "demo"])
def test_trainer_overlays(name, tmp_path):
    write_texts(tmp_path)
    assert fit_with(CONFIGS / "trainer" / f"{name}.yaml", *tiny_encoder()) == 0


def test_tensorboard_overlay_shows_what_metrics_csv_holds(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    write_texts(tmp_path)
    named = [*tiny_encoder(), "--trainer.log_every_n_steps=2", "--trainer.logger.version=mine"]
    assert fit_with(CONFIGS / "trainer" / "tensorboard.yaml", *named) == 0
    rows = read_metrics(tmp_path / "runs" / "tensorboard" / "metrics.csv")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "mine")).Reload()
    for name in ("train/loss", "val/loss", "val/effective_rank"):
        shown = {event.step + 1: event.value for event in events.Scalars(name)}  # Lightning counts steps from 0
        assert shown == pytest.approx({int(row["step"]): float(row[name]) for row in rows if row[name]})
        assert shown


@pytest.mark.timeout(900)  # a C++ compiler runs, on a machine that may be busy
def test_gpu_overlay_compiles_the_encoder(tmp_path):
    write_texts(tmp_path)
    cpu = ["--trainer.accelerator=cpu", "--data.workers=0", "--model.encoder.layers=1"]
    assert fit_with(CONFIGS / "trainer" / "gpu.yaml", *tiny_encoder(), *cpu) == 0


def test_data_files_overlay(tmp_path):
    for seed, split in enumerate(("train", "valid", "test")):
        records = [json.dumps({"text": text, "label": "prose"}) for text in random_texts(300, seed)]
        (tmp_path / f"{split}.jsonl").write_text("\n".join(records))
    files = [f"--data.corpus.{split}={tmp_path / split}.jsonl" for split in ("train", "valid", "test")]
    overlay = CONFIGS / "data" / "files.yaml"
    config = ["fit", "--config", str(CONFIGS / "causal_lm.yaml"), "--config", str(overlay), *files, *tiny_encoder()]
    assert run(*config, "--config", str(CONFIGS / "trainer" / "debug.yaml")) == 0


def test_wikitext_overlay_with_a_local_copy_of_its_shape(tmp_path):
    from datasets import Dataset, DatasetDict

    splits = {"train": 200, "validation": 20, "test": 20}
    texts = {name: random_texts(size, seed=i) for i, (name, size) in enumerate(splits.items())}
    local = DatasetDict({name: Dataset.from_dict({"text": lines}) for name, lines in texts.items()})
    local.save_to_disk(tmp_path / "wikitext")
    corpus = HubDataset(str(tmp_path / "wikitext"), valid="validation", test="test")
    digests = {
        split: digest_of_text((document.text, None, None) for document in corpus.documents(split))
        for split in ("train", "valid")
    }
    config = [
        "fit",
        "--config",
        str(CONFIGS / "causal_lm.yaml"),
        "--config",
        str(CONFIGS / "data" / "wikitext103.yaml"),
    ]
    settings = [
        f"--data.corpus.path={tmp_path / 'wikitext'}",
        "--data.corpus.name=null",
        "--data.tokenizer.vocab_size=320",
        f"--data.digests={json.dumps(digests)}",
        "--run=a",
    ]
    small_run = ["--data.length=32", "--data.batch_size=4", "--config", str(CONFIGS / "trainer" / "debug.yaml")]
    assert run(*config, *settings, *small_run, *tiny_encoder()) == 0
    assert json.loads((tmp_path / "runs" / "a" / "run.json").read_text())["text"] == digests


def test_synthetic_overlay_knows_its_limit_in_training_and_in_its_suite(tmp_path, capsys):
    language = [
        "--data.corpus.documents=400",
        "--data.corpus.words=30",
        "--data.corpus.word_concentration=1",  # no word is rare
        "--data.corpus.valid=0.2",
        "--data.corpus.test=0.2",
    ]
    config = ["fit", "--config", "masked_lm", "--config", "data/synthetic", *language, *tiny_encoder(), "--run=a"]
    assert run(*config, "--data.batch_size=8", "--config", str(CONFIGS / "trainer" / "debug.yaml")) == 0
    metrics = read_metrics(tmp_path / "runs" / "a" / "metrics.csv")[-1]
    assert float(metrics["val/loss"]) == pytest.approx(
        float(metrics["val/limit"]) + float(metrics["val/excess_nats"]), 0.01
    )
    capsys.readouterr()
    assert run("validate", "--run=a") == 0
    assert "val/limit" in capsys.readouterr().out
    assert run("evaluate", "a", "--suite", "limits") == 0
    shown = capsys.readouterr().out
    assert "limits: nats per word, beside the least possible" in shown and "pseudo-likelihood" in shown
    suite = json.loads((tmp_path / "runs" / "a" / "evaluation.json").read_text())["suites"]["limits"]
    assert suite["evaluators"]["limits"]["metrics"]["pseudo_excess_nats"] > 0
    assert suite["baselines"]["tfidf"]["topic.linear_probe"]["metrics"]["share_of_bayes"] > 0.5


def test_benchmark_config(tmp_path):
    texts = write_texts(tmp_path)
    config = ["fit", "--config", str(CONFIGS / "benchmarks" / "shakespeare_char.yaml")]
    files = [f"--data.corpus.train={texts}", f"--data.corpus.valid={texts}", "--data.corpus.unit=line"]
    (tmp_path / "valid.txt").write_text("the dog sees the red house\nthe bird\n")
    files[1] = f"--data.corpus.valid={tmp_path / 'valid.txt'}"
    assert run(*config, *files, "--config", str(CONFIGS / "trainer" / "debug.yaml")) == 0


def test_suite_of_files(tmp_path):
    """The shipped examples in `configs/suites` work on files like those that they describe."""
    reviews = [f"{word} {number},{word}" for number in range(40) for word in ("good", "bad")]
    (tmp_path / "reviews.csv").write_text("\n".join(["review,rating", *reviews]))
    (tmp_path / "similar.tsv").write_text("".join(f"a dog {i}\ta cat {i}\t{i % 5}\n" for i in range(20)))
    (tmp_path / "words.tsv").write_text("".join(f"dog{i}\tcat{i}\t{i % 5}\n" for i in range(20)))
    captions = [json.dumps({"english": f"a dog {i}", "german": f"ein Hund {i}"}) for i in range(20)]
    (tmp_path / "captions.jsonl").write_text("\n".join(captions))
    capitals = [f"city{i} land{i} Rome Italy" for i in range(20)]
    (tmp_path / "questions-words.txt").write_text("\n".join([": capitals", *capitals]))
    (tmp_path / "articles.txt").write_text("\n".join(f"a dog sees {i} cats" for i in range(20)))
    (tmp_path / "stories.txt").write_text("\n".join(f"A dog sees {i} cats." for i in range(400)))
    texts = [json.dumps({"_id": str(i), "text": f"a dog {i}"}) for i in range(20)]
    for name in ("documents", "queries"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(texts))
    (tmp_path / "judgements.tsv").write_text("".join(f"{i}\t{i + 1}\t1\n" for i in range(10)))
    (tmp_path / "paraphrases.tsv").write_text("".join(f"dog {i}\tcat {i}\t{i % 2}\n" for i in range(20)))
    pair = {"sentence_good": "A dog sees.", "sentence_bad": "A dog see.", "UID": "agreement", "field": "morphology"}
    (tmp_path / "blimp").mkdir()
    (tmp_path / "blimp" / "agreement.jsonl").write_text(json.dumps(pair))
    (tmp_path / "zhoblimp").mkdir()
    names = dict(zip(pair, ("good", "bad", "paradigm", "field"), strict=True))
    for path in (tmp_path / "zhoblimp" / "zhoblimp.jsonl", tmp_path / "pairs.jsonl"):
        path.write_text(json.dumps({names[key]: value for key, value in pair.items()}))
    (tmp_path / "pairs.tsv").write_text("\t".join(pair.values()))
    for name, field in (("blimp", "morphology"), ("zhoblimp", "morphology"), ("mine", "all")):
        pairs = get_suite("files", str(CONFIGS / "suites" / "minimal_pairs.yaml")).evaluators[f"{name}.minimal_pairs"]
        assert pairs == MinimalPairs(["A dog sees."], ["A dog see."], ["agreement"], [field])
    suite = get_suite("files", str(CONFIGS / "suites" / "files.yaml"))
    tasks = {"reviews", "similar", "captions", "words", "articles", "opinions", "capitals", "stories", "translations"}
    tasks |= {"search", "topics", "paraphrases", "grammar", "language_modelling"}
    assert {name.partition(".")[0] for name in suite.evaluators} == tasks


def test_every_file_is_named_in_a_test():
    here = Path(__file__).parent
    tests = [*here.glob("*.py"), here.parent / "tasks" / "test_commands.py"]
    source = "".join(path.read_text() for path in tests)
    named = set(METHODS) | {"docs"} | set(overlays("sweeps"))  # test_compare runs all of these
    for path in CONFIGS.rglob("*.yaml"):
        forms = (f'"{path.stem}"', f"{path.stem}.yaml", f'{path.parent.name}/{path.stem}"')
        assert path.stem in named or any(form in source for form in forms), path
