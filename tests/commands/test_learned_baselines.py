"""What baselines learn from, and the mean of word vectors."""

import logging

import pytest
import torch
from rich.progress import Progress

from ssl_nlp.commands import evaluate, learned_baselines
from ssl_nlp.commands.learned_baselines import LearnedTexts, pretraining_texts, word_vectors
from ssl_nlp.commands.models import Target
from ssl_nlp.commands.overlaps import ReadText
from ssl_nlp.data.tokenizer import TokenizerSettings, get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.evaluation import ScoredPairs, SentenceSimilarity, Suite
from ssl_nlp.methods import Method, SimCLR
from ssl_nlp.objectives.scores import Unable
from ssl_nlp.runs.ancestry import published
from ssl_nlp.runs.checkpoint import digest
from ssl_nlp.runs.run import Run
from tests.corpus import ListCorpus, random_texts


class Stream(ListCorpus):
    streaming = True


def run_on(corpus, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run = Run("one")
    run.directory.mkdir(parents=True)
    run.config.write_text("")
    monkeypatch.setattr(learned_baselines, "corpus_of", lambda run, imports: corpus)
    return run


def test_the_train_split_of_a_run_is_learned_from_and_nothing_else(monkeypatch, tmp_path):
    corpus = ListCorpus([("a dog", "ein Hund"), "a cat", "a bird"], ["valid text"], ["test text"])
    run = run_on(corpus, monkeypatch, tmp_path)
    assert pretraining_texts(run, ()) == LearnedTexts(["a dog", "ein Hund", "a cat", "a bird"])
    monkeypatch.setattr(learned_baselines, "MOST_TEXTS", 4)
    assert not pretraining_texts(run, ()).cut
    monkeypatch.setattr(learned_baselines, "MOST_TEXTS", 2)
    assert pretraining_texts(run, ()) == LearnedTexts(["a dog", "ein Hund"], cut=True)


def test_the_text_of_the_runs_that_weights_come_from_counts_as_read_if_they_are_still_there(monkeypatch, tmp_path):
    run = run_on(None, monkeypatch, tmp_path)
    ancestry = [published("some/model")]
    for name in ("before", "replaced", "gone"):
        checkpoint = Run(name).last_checkpoint
        checkpoint.parent.mkdir(parents=True)
        checkpoint.write_text(name)
        Run(name).config.write_text("")
        ancestry.append(
            ancestry[0] | {"run": name, "checkpoint": "checkpoints/last.ckpt", "digest": digest(checkpoint)}
        )
    Run("replaced").last_checkpoint.write_text("another run of this name")
    Run("gone").config.unlink()
    run.write_state({"ancestry": ancestry})
    texts = {"one": ["own text", "both"], "before": ["text before", "both"]}
    monkeypatch.setattr(learned_baselines, "corpus_of", lambda run, imports: ListCorpus(texts[run.name]))
    found = pretraining_texts(run, ())
    assert found == LearnedTexts(["own text", "both", "text before"], unknown=("some/model", "replaced", "gone"))
    assert ReadText.of(found).part == "texts without those of some/model, replaced, gone"


def test_unknown_text_leaves_a_cell_empty(monkeypatch, tmp_path):
    with pytest.raises(Unable, match="its training text is not known"):
        pretraining_texts(None, ())
    with pytest.raises(Unable, match="is a stream"):
        pretraining_texts(run_on(Stream(["a"]), monkeypatch, tmp_path), ())


def test_word_vectors_of_words_in_like_places_are_alike_and_are_trained_once(monkeypatch):
    texts = [f"{text} {number}" for number, text in enumerate(random_texts(150, longest=10))]
    texts += [f"the {animal} barks at {number}" for number in range(60) for animal in ("dog", "wolf")]
    corpus = LearnedTexts(texts)
    logger = logging.getLogger("lightning.pytorch")
    logger.setLevel(logging.INFO)
    method = word_vectors(corpus, seed=0)
    assert not logger.isEnabledFor(logging.INFO)  # a table of scores needs no news of GPUs
    monkeypatch.setattr(learned_baselines, "Trainer", None)  # the vectors are kept
    again = word_vectors(LearnedTexts(list(texts)), seed=0)
    embeddings = method.embed_all(["dog", "wolf", "tree"])
    assert embeddings.keys() >= {"mean", "sif"}
    assert torch.equal(embeddings["mean"], again.embed_all(["dog", "wolf", "tree"])["mean"])
    dog, wolf, tree = torch.nn.functional.normalize(embeddings["mean"])
    assert dog @ wolf > dog @ tree


def test_random_baselines_are_drawn_with_the_seed_of_a_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    texts = [f"{text} {number}" for number, text in enumerate(random_texts(40, longest=6))]
    pairs = ScoredPairs("pairs", texts[:20], texts[20:], [float(number) for number in range(20)])
    suite = Suite("mine", {"similarity": SentenceSimilarity(pairs)}, [])
    corpus = LearnedTexts([*texts, *texts[:5]])
    tokenizer = get_tokenizer(TokenizerSettings("word", 400), ListCorpus(texts))

    def untrained() -> Method:
        method = SimCLR(Transformer("tiny"))
        method.connect(tokenizer)
        return method

    found = []
    for seed in (3, 4, 3):
        run = Run(f"seed-{seed}-{len(found)}")
        run.directory.mkdir(parents=True)
        run.config.write_text(f"{{seed_everything: {seed}, model: {{}}, data: {{}}, trainer: {{}}}}")
        target = Target(run.name, untrained(), run.directory / "evaluation.json", "a.ckpt", "", {}, untrained, run)
        bar = Progress(disable=True)
        results = (
            evaluate._random(suite, target, {}, bar) | evaluate._learned(suite, corpus, "", target.seed, {}, bar)[0]
        )
        found.append({name: of_suite["similarity"].primary for name, of_suite in results.items()})
    first, second, again = found
    assert first == again
    same = {name for name in first if first[name] == second[name]}
    assert same == {"tfidf", "lsa"} and first.keys() == same | {"random_words", "random_init", "word_vectors"}


def test_text_without_a_word_that_occurs_twice_leaves_one_cell_empty_and_loses_no_other_number():
    pairs = ScoredPairs("pairs", ["a dog", "a cat", "a bird"], ["dog", "car", "bird"], [2.0, 0.0, 1.0])
    suite = Suite("mine", {"similarity": SentenceSimilarity(pairs)}, [])
    found, missing = evaluate._learned(
        suite, LearnedTexts(["one dog", "another cat"]), "", 0, {}, Progress(disable=True)
    )
    assert found.keys() == {"tfidf", "lsa"}
    assert "nothing can be learned from its training text: no word" in missing["word_vectors"]
