import pytest
import torch

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.cache import EmbeddingCache, embed_in_memory
from ssl_nlp.evaluation.vectors import coverage_of
from tests.evaluation.vectors import Hashed


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_NLP_CACHE", str(tmp_path))


class Counting(Hashed):
    seen: list[str]

    def embed(self, texts):
        self.seen = [*getattr(self, "seen", []), *texts]
        return super().embed(texts)


TEXTS = [f"text {'long ' * (i % 5)}{i}" for i in range(30)]


def test_each_text_is_computed_once_for_all_poolings_also_in_another_process():
    inner = Counting()
    cached = EmbeddingCache(inner, "key")
    embedders = cached.embedders(TEXTS[:20] + TEXTS[:5])
    assert list(embedders) == ["mean", "last"]
    expected = Hashed().embed_all(TEXTS[:20] + TEXTS[:5])
    for name, embedder in embedders.items():
        assert torch.equal(embedder.embed(TEXTS[:20] + TEXTS[:5]), expected[name])
    assert sorted(inner.seen) == sorted(TEXTS[:20])
    again = EmbeddingCache(inner, "key")
    assert again.missing(TEXTS) == TEXTS[20:]
    assert torch.equal(again.embedders(TEXTS)["last"].embed(TEXTS[::-1]), Hashed().embed_all(TEXTS[::-1])["last"])
    assert sorted(inner.seen) == sorted(TEXTS)
    assert cached.missing(TEXTS) == []  # another process has stored them meanwhile


def test_another_key_shares_nothing():
    first, second = Counting(), Counting()
    EmbeddingCache(first, "a").embedders(TEXTS)
    EmbeddingCache(second, "b").embedders(TEXTS)
    assert sorted(second.seen) == sorted(TEXTS)


def test_progress_counts_the_texts_that_are_computed():
    counted = []
    EmbeddingCache(Hashed(), "key").embedders(TEXTS[:10])
    EmbeddingCache(Hashed(), "key", counted.append).embedders(TEXTS)
    assert sum(counted) == 20


def test_remains_of_a_killed_process_are_not_used(tmp_path):
    class Failing(Hashed):
        def embed(self, texts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        EmbeddingCache(Failing(), "key").embedders(TEXTS)
    assert EmbeddingCache(Hashed(), "key").missing(TEXTS) == TEXTS


def test_in_memory_each_text_is_computed_once_too():
    inner = Counting()
    embedders = embed_in_memory(inner, TEXTS + TEXTS)
    assert sorted(inner.seen) == sorted(TEXTS)
    for name, embeddings in Hashed().embed_all(TEXTS[::-1]).items():
        assert torch.equal(embedders[name].embed(TEXTS[::-1]), embeddings)


def test_a_text_that_an_evaluator_did_not_list_is_named():
    for embedders in (embed_in_memory(Hashed(), TEXTS), EmbeddingCache(Hashed(), "key").embedders(TEXTS)):
        with pytest.raises(UserError, match="an evaluator embeds 'new', which is not in its `texts`"):
            embedders["mean"].embed([*TEXTS, "new"])


def test_cached_embedders_cover_the_words_that_the_model_covers():
    class Closed(Hashed):
        def covers(self, word: str) -> bool:
            return word != "quokka"

    for embedders in (embed_in_memory(Closed(), TEXTS), EmbeddingCache(Closed(), "closed").embedders(TEXTS)):
        assert [covers("quokka") for covers in map(coverage_of, embedders.values())] == [False, False]
        assert coverage_of(embedders["mean"])("cat")
    assert coverage_of(embed_in_memory(Hashed(), TEXTS)["mean"])("quokka")
