"""Character n-grams beside gensim's fastText: which there are, their hashes, and the vectors of known and unknown words."""

import numpy as np
import pytest
import torch
from gensim.models import KeyedVectors
from gensim.models.fasttext import FastTextKeyedVectors, ft_ngram_hashes

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import train
from ssl_nlp.encoders import BagOfWords, Trained
from ssl_nlp.encoders.character_ngrams import ngram_hashes
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.similarity import ScoredPairs, WordSimilarity
from ssl_nlp.export import word2vec_format
from ssl_nlp.export.onnx_format import Graph
from ssl_nlp.methods import Method, SimCLR, SkipGram
from tests.end_to_end.cli import save_untrained

WORDS = ["where", "a", "I", "naïve", "今天天气", "天", "don't", "ไม่เป็นไร", "👩‍🚀", "Straßenbahnhof", ",", "\ud800x"]
TEXTS = ["where the naïve dog sees a cat", "今天天气很好，我们去公园。", "I don't walk; dogs walked"]
LENGTHS, BUCKETS = [3, 5], 60


def tokenizer(kind: str = "word", **settings) -> Tokenizer:
    return Tokenizer(train(TokenizerSettings(kind, 300, **settings), lambda: iter(TEXTS)))


def made(words: Tokenizer | None = None, kind: type[Method] = SimCLR, **arguments) -> Method:
    """A method with random vectors, of tokens that are words."""
    method = kind(BagOfWords(**{"dim": 7, "dropout": 0.5, "ngrams": LENGTHS, "buckets": BUCKETS} | arguments))
    torch.manual_seed(0)
    method.connect(words or tokenizer())
    return method.eval()


def gensim_vectors(method: Method) -> FastTextKeyedVectors:
    """The same two tables in gensim's class, which makes vectors of words of them."""
    vectors = FastTextKeyedVectors(7, *LENGTHS, BUCKETS)
    vectors.index_to_key = [method.tokenizer.token(number) for number in range(4, method.vocab_size)]
    vectors.key_to_index = {word: place for place, word in enumerate(vectors.index_to_key)}
    vectors.vectors_vocab = method.encoder.embedding.weight[4:].detach().numpy()
    vectors.vectors_ngrams = method.encoder.state_dict()["ngrams.table.weight"].numpy()
    vectors.recalc_char_ngram_buckets()
    vectors.adjust_vectors()
    return vectors


@pytest.mark.parametrize(("shortest", "longest"), [(3, 6), (1, 1), (1, 2), (2, 2), (5, 30)])
def test_ngrams_and_hashes_are_those_of_gensim(shortest, longest):
    words = [*WORDS[:-1], "", "?x"]
    hashes, sizes = ngram_hashes([*WORDS[:-1], "", WORDS[-1]], shortest, longest)
    assert sizes.sum() == len(hashes) > 20
    for word, found in zip(words, np.split(hashes, sizes.cumsum()[:-1]), strict=True):
        expected = ft_ngram_hashes(word, shortest, longest, 2**32) if word else []
        assert sorted(found.tolist()) == sorted(expected)


def test_a_word_without_ngrams_may_be_all_there_is():
    for words in ([""], ["a"]):
        hashes, sizes = ngram_hashes(words, 4, 10**15)  # takes no longer than the longest word
        assert (hashes.tolist(), sizes.tolist()) == ([], [0])


def test_vectors_of_known_and_unknown_words_are_those_of_gensim():
    method = made()
    expected = gensim_vectors(method)
    found = method.encoder.token_vectors(torch.arange(method.vocab_size))
    torch.testing.assert_close(found[4:], torch.from_numpy(expected.vectors))
    assert torch.equal(found[:4], method.encoder.embedding.weight[:4])  # special tokens have no n-grams
    unknown = ["Dog", "天气好", "unbelievable", "z"]
    ids = torch.tensor([[method.vocab_size + 2, 5, method.vocab_size], [5, 5, method.vocab_size + 3]])
    states = method.encoder.look_up(ids, unknown)
    for (row, column), token in np.ndenumerate(ids.numpy()):
        word = [*expected.index_to_key, *unknown][token - 4]
        torch.testing.assert_close(states[row, column], torch.tensor(expected.get_vector(word)))


def test_unknown_words_have_embeddings_from_their_spelling_in_the_case_of_the_vocabulary():
    method = made(tokenizer(lowercase=True))
    expected = gensim_vectors(method)

    def mean(*words: str) -> torch.Tensor:
        start = method.encoder.embedding.weight[method.tokenizer.prefix[0]].detach()
        return (start + sum(torch.tensor(expected.get_vector(word)) for word in words)) / (len(words) + 1)

    texts = ["Walking DOGS walk", "the cat", "walking", ""]
    means = torch.stack([mean(*text.lower().split()) for text in texts])
    torch.testing.assert_close(method.embed(texts, batch_size=2), means)
    assert "walking" not in expected.key_to_index
    torch.testing.assert_close(method.embed_all(texts)["mean"], means)
    assert {"walk", "dogs"} <= expected.key_to_index.keys()


def test_an_unknown_word_counts_fully_in_the_weighted_mean():
    """a / (a + p) is 1, because p is 0."""
    method = made()
    method.encoder.sif.weights.zero_()
    found = method.embed(["dogs unbelievable walk"], pooling="sif")[0]
    torch.testing.assert_close(found, torch.from_numpy(gensim_vectors(method).get_vector("unbelievable")))


def test_similarity_covers_words_that_it_can_spell():
    pairs = WordSimilarity(ScoredPairs("pairs", ["dog", "walking", "I"], ["dogs", "walker", "cat"], [3, 2, 1]))
    open_one, closed, long = made(), made(ngrams=None), made(ngrams=[9, 9])
    for method, covered in ((open_one, 3), (closed, 2), (long, 2)):
        found = pairs.predictions(method)
        assert int((~np.isnan(found)).sum()) == covered
    assert not long.covers("walker") and long.covers("walkers") and not closed.covers("walkers")
    assert pairs.result(pairs.predictions(open_one), open_one).metrics["coverage"] == 1


def test_pieces_of_words_have_ngrams_and_lack_no_word():
    method = made(tokenizer("bpe"))
    piece = method.vocab_size - 1
    rows = ft_ngram_hashes(method.tokenizer.token(piece).strip(), *LENGTHS, BUCKETS)
    parts = [method.encoder.embedding.weight[piece], *method.encoder.state_dict()["ngrams.table.weight"][rows]]
    [found] = method.encoder.token_vectors(torch.tensor([piece]))
    torch.testing.assert_close(found, torch.stack(parts).mean(dim=0))
    assert method.covers("zebra") and method.embed(["a zebra"]).isfinite().all()


def test_checkpoints_runs_and_gensim_have_the_same_vectors(tmp_path):
    method = made(kind=SkipGram)
    save_untrained(method, method.tokenizer, tmp_path / "a.ckpt")
    texts = ["where unbelievable dogs walk", "天气好"]
    loaded = Method.load_from_checkpoint(tmp_path / "a.ckpt")
    assert torch.equal(loaded.embed(texts), method.embed(texts))
    assert loaded.encoder.hparams() == method.encoder.hparams()
    carried = SimCLR(Trained(str(tmp_path / "a.ckpt"), freeze="embeddings"))
    carried.connect(method.tokenizer)
    assert torch.equal(carried.embed(texts), method.embed(texts))
    assert not any(parameter.requires_grad for parameter in carried.encoder.parameters())
    plain = SimCLR(BagOfWords(dim=7, embedding_from=str(tmp_path / "a.ckpt")))
    plain.connect(method.tokenizer)
    word2vec_format.write(method, tmp_path)
    vectors = KeyedVectors.load_word2vec_format(str(tmp_path / "vectors.bin"), binary=True)
    assert np.array_equal(vectors.vectors, plain.encoder.embedding.weight[4:].detach().numpy())
    np.testing.assert_allclose(vectors.vectors, gensim_vectors(method).vectors, rtol=1e-5, atol=1e-7)


def test_another_embedding_begins_with_vectors_of_words_that_the_run_spells(tmp_path):
    method = made(tokenizer(lowercase=True))
    save_untrained(method, method.tokenizer, tmp_path / "a.ckpt")
    words = Tokenizer(train(TokenizerSettings("word", 300), lambda: iter(["The walking Zebra is naïve"])))
    other = SimCLR(BagOfWords(dim=7, embedding_from=str(tmp_path / "a.ckpt")))
    other.connect(words)
    expected = gensim_vectors(method)
    assert {"the", "naïve"} <= expected.key_to_index.keys() and "zebra" not in expected.key_to_index
    for number in range(4, words.vocab_size):
        vector = torch.tensor(expected.get_vector(words.token(number).lower()))
        torch.testing.assert_close(other.encoder.embedding.weight[number].detach(), vector)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ngrams": [3]}, r"ngrams must be the lengths of the shortest and the longest, .* not \[3\]"),
        ({"ngrams": [6, 3]}, r"ngrams must be the lengths .* not \[6, 3\]"),
        ({"ngrams": [3.0, 6.5]}, r"ngrams must be the lengths .* not \[3.0, 6.5\]"),
        ({"ngrams": [0, 3], "buckets": 0}, r"ngrams must be .* not \[0, 3\]; buckets must be at least 1, not 0"),
        ({"embedding_from": "a.ckpt"}, "embedding_from cannot fill vectors that are means with n-grams"),
    ],
)
def test_bad_settings_are_refused_in_one_line(arguments, message):
    with pytest.raises(UserError, match=f"^encoder: {message}"):
        BagOfWords(**{"ngrams": LENGTHS} | arguments)


def test_it_has_no_graph_and_cannot_be_built_without_spellings():
    with pytest.raises(
        UserError, match="torch.onnx cannot export this BagOfWords encoder correctly: use the checkpoint instead"
    ):
        Graph(made())
    assert made(ngrams=None).encoder.exportable
    with pytest.raises(UserError, match="ngrams need the spelling of tokens: give build the tokenizer"):
        BagOfWords(ngrams=LENGTHS).build(300, 0, causal=False)
