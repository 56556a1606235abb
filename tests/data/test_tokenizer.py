import multiprocessing
from pathlib import Path

import pytest

from ssl_nlp.data.tokenizer import Tokenizer, TokenizerSettings, get_tokenizer, load_pretrained
from ssl_nlp.errors import UserError
from tests.corpus import ListCorpus, random_texts

CORPUS = ListCorpus(["Hello world, how are you today?", "unbelievable things happen", *random_texts(50)])
KINDS = ["bpe", "wordpiece", "unigram", "char"]


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_through_ids_and_through_serialization(kind):
    tokenizer = get_tokenizer(TokenizerSettings(kind=kind, vocab_size=400), CORPUS)
    text = "the dog sees a big tree"
    [(ids, starts)] = tokenizer.encode([text])
    assert tokenizer.decode(ids) == text
    assert ids[0] == tokenizer.prefix[0] == tokenizer.end_id
    assert len(ids) == len(starts)
    assert max(ids) < tokenizer.vocab_size
    again = Tokenizer(tokenizer.serialize())
    assert again.encode([text]) == [(ids, starts)]
    assert again.fingerprint() == tokenizer.fingerprint()


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_in_a_text_are_text(kind):
    tokenizer = get_tokenizer(TokenizerSettings(kind=kind, vocab_size=400), CORPUS)
    [(ids, _)] = tokenizer.encode(["a <mask> and <pad> or <s>"])
    reserved = {tokenizer.pad_id, tokenizer.mask_id, *tokenizer.prefix}
    assert not reserved & set(ids[1:])


def test_words_begin_where_the_text_has_them():
    tokenizer = get_tokenizer(TokenizerSettings(vocab_size=300), CORPUS)
    [(_, starts)] = tokenizer.encode(["dog unbelievable"])
    assert sum(starts) == 3  # the frame, two words
    assert get_tokenizer(TokenizerSettings(), CORPUS).encode([""])[0] == ([2], [True])


def test_byte_level_bpe_loses_nothing():
    tokenizer = get_tokenizer(TokenizerSettings(vocab_size=300), CORPUS)
    text = "naïve 北京 🙂\tend\n"
    assert tokenizer.decode(tokenizer.encode([text])[0][0]) == text


def test_a_pretrained_tokenizer_keeps_its_own_frame(tmp_path: Path):
    from transformers import BertTokenizerFast

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "##s"]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    tokenizer = load_pretrained(str(tmp_path))
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.pad_id, tokenizer.mask_id) == ([2], [3], 0, 4)
    assert tokenizer.encode(["a dogs"]) == [([2, 5, 6, 7, 3], [True, True, True, False, True])]
    assert tokenizer.end_id == 3
    assert tokenizer.encode_with_masks("a [MASK]") == [2, 5, 4, 3]


def test_a_tokenizer_that_was_published_with_a_fixed_length_pads_and_cuts_nothing(tmp_path: Path):
    import tokenizers
    from transformers import BertTokenizerFast

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog"]))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.enable_padding(length=8)
    backend.enable_truncation(8)
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_pretrained(str(tmp_path))
    assert (tokenizer.prefix, tokenizer.suffix) == ([2], [3])
    lengths = [len(ids) for ids, _ in tokenizer.encode(["a", "a dog " * 10])]
    assert lengths == [3, 22]


def test_errors_name_the_culprit():
    with pytest.raises(UserError, match="no tokenizer at '/nowhere'"):
        load_pretrained("/nowhere")
    with pytest.raises(UserError, match="vocab_size 10 is too small"):
        TokenizerSettings(vocab_size=10)


def _train(queue) -> None:
    queue.put(get_tokenizer(TokenizerSettings(vocab_size=350), CORPUS).fingerprint())


def test_processes_that_start_at_once_agree_on_one_tokenizer():
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_train, args=(queue,)) for _ in range(2)]
    for process in processes:
        process.start()
    keys = {queue.get(timeout=100) for _ in processes}
    for process in processes:
        process.join()
    assert len(keys) == 1
