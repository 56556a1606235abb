import pytest
import torch

from ssl_nlp.evaluation.cache import CachedEmbedder
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


def test_each_text_is_computed_once_also_in_another_process():
    inner = Counting()
    cached = CachedEmbedder(inner, "key")
    assert torch.equal(cached.embed(TEXTS[:20] + TEXTS[:5]), Hashed().embed(TEXTS[:20] + TEXTS[:5]))
    assert sorted(inner.seen) == sorted(TEXTS[:20])
    again = CachedEmbedder(inner, "key")
    assert again.missing(TEXTS) == TEXTS[20:]
    assert torch.equal(again.embed(TEXTS[::-1]), Hashed().embed(TEXTS[::-1]))
    assert sorted(inner.seen) == sorted(TEXTS)
    assert cached.missing(TEXTS) == []  # what somebody else has stored meanwhile


def test_another_key_shares_nothing():
    first, second = Counting(), Counting()
    CachedEmbedder(first, "a").embed(TEXTS)
    CachedEmbedder(second, "b").embed(TEXTS)
    assert sorted(second.seen) == sorted(TEXTS)


def test_progress_counts_what_is_computed():
    counted = []
    CachedEmbedder(Hashed(), "key").embed(TEXTS[:10])
    CachedEmbedder(Hashed(), "key", counted.append).embed(TEXTS)
    assert sum(counted) == 20


def test_what_a_killed_process_left_is_not_used(tmp_path):
    class Failing(Hashed):
        def embed(self, texts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CachedEmbedder(Failing(), "key").embed(TEXTS)
    assert CachedEmbedder(Hashed(), "key").missing(TEXTS) == TEXTS
