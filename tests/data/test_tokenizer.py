import multiprocessing
import random
from pathlib import Path

import pytest

from ssl_nlp.data.tokenizer import Tokenizer, TokenizerSettings, get_tokenizer, load_pretrained, train
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


@pytest.mark.parametrize("kind", [*KINDS, "word"])
def test_sentinels_are_special_tokens_that_no_text_contains(kind):
    tokenizer, without = (
        get_tokenizer(TokenizerSettings(kind=kind, vocab_size=400, sentinels=number), CORPUS) for number in (12, 0)
    )
    assert [tokenizer.token(i) for i in tokenizer.sentinel_ids] == [f"<extra_id_{i}>" for i in range(12)]
    assert {*tokenizer.sentinel_ids} < {*tokenizer.special_ids}
    assert (without.sentinel_ids, len(without.special_ids)) == ([], len(tokenizer.special_ids) - 12)
    text = "the dog <extra_id_0> sees"
    [(ids, _)] = tokenizer.encode([text])
    assert not {*tokenizer.sentinel_ids} & {*ids}
    first, second, *_ = tokenizer.sentinel_ids
    ids = tokenizer.encode_with_masks("[MASK] dog <mask>", tokenizer.sentinel_ids)
    assert (ids[1], ids[-1]) == (first, second)
    assert tokenizer.decode(ids).strip() == "dog"
    with pytest.raises(UserError, match="2 masks, and there are tokens for 1"):
        tokenizer.encode_with_masks("[MASK] dog <mask>", [first])
    with pytest.raises(UserError, match="vocab_size 310 is too small: use 324"):
        TokenizerSettings(vocab_size=310, sentinels=64)


CHINESE = ["今天天气很好。我们用iPhone手机去公园散步。", "我们今天去公园。天气很好！", "他们用手机。公园很好。"]
HINDI = ["नमस्ते दुनिया। यह हिन्दी है।", "यह दुनिया अच्छा है। हिन्दी अच्छा है।"]
THAI = ["สวัสดีครับ วันนี้อากาศดี"]
ALL = [*CHINESE * 3, *HINDI * 3, *THAI * 3, *random_texts(100)]


def trained(kind, texts=ALL, vocab_size=600, **settings):
    return Tokenizer(train(TokenizerSettings(kind=kind, vocab_size=vocab_size, **settings), lambda: iter(texts)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_training_twice_gives_one_tokenizer(kind, lowercase):
    """The order of a hash table, which is drawn anew each time, decides nothing."""
    words = random.Random(0).choices(ALL, k=500)
    keys = {trained(kind, words, lowercase=lowercase).fingerprint() for _ in range(4)}
    assert len(keys) == 1


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_a_vocabulary_has_the_size_that_was_asked_for_however_many_characters_there_are(kind):
    """The rarest characters are unknown then."""
    characters = [chr(0x4E00 + i) for i in range(1500)]
    texts = ["".join(characters[: 1 + i % 1500]) for i in range(0, 1500, 5)]
    tokenizer = trained(kind, texts, vocab_size=400)
    assert tokenizer.vocab_size == 400
    known, rare = (tokenizer.encode([text])[0][0][1:] for text in (characters[0] * 2, characters[-1]))
    unknown = tokenizer._roles["unk"]
    assert unknown not in known
    assert (rare[-1] == unknown) == (kind != "bpe")


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_words_of_any_length_are_cut_into_known_tokens(kind):
    draw = random.Random(1)
    strands = ["".join(draw.choices("ACGT", k=length)) for length in (80, 101, 250, 1000)]
    tokenizer = trained(kind, strands)
    for strand, (ids, _) in zip(strands, tokenizer.encode(strands), strict=True):
        assert tokenizer._roles["unk"] not in ids
        assert tokenizer.decode(ids).replace(" ", "") == strand


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [*CHINESE, HINDI[0]])
def test_folding_case_leaves_other_scripts_as_they_are(kind, text):
    tokenizer = trained(kind, lowercase=True)
    [(ids, _)] = tokenizer.encode([text])
    assert tokenizer._roles["unk"] not in ids
    decoded = tokenizer.decode(ids)
    if kind == "wordpiece":  # keeps no spaces, and writes some between scripts and before the Hindi full stop
        assert decoded.replace(" ", "") == text.lower().replace(" ", "")
        assert "今 " not in decoded
        assert "。 " not in decoded
    else:
        assert decoded == text.lower()


def test_wordpiece_strips_accents_from_latin_letters_alone():
    tokenizer = trained("wordpiece", [*ALL, "cafe naive ёлка й"], lowercase=True)
    assert tokenizer.decode(tokenizer.encode(["Café NAÏVE ёлка"])[0][0]) == "cafe naive ёлка"


def words_of(tokenizer, text):
    """The text as its tokens have it, cut where words begin; the frame and white space left out."""
    [(ids, starts)] = tokenizer.encode([text])
    units = []
    for token, start in zip(ids[1:], starts[1:], strict=True):
        units += [[]] if start or not units else []
        units[-1].append(token)
    return [word for unit in units if (word := tokenizer.decode(unit).strip().replace("##", ""))]


@pytest.mark.parametrize("kind", KINDS)
def test_words_begin_where_their_script_has_them(kind):
    apart = [character for text in [*CHINESE, *HINDI, *THAI] for character in text]  # so that no token is two words
    tokenizer = trained(kind, [*apart, *random_texts(100)])
    chinese = ["今天", "天气", "很好", "。", "我们", "用", "iPhone", "手机", "去", "公园", "散步", "。"]
    assert words_of(tokenizer, CHINESE[0]) == chinese
    assert words_of(tokenizer, HINDI[0]) == ["नमस्ते", "दुनिया", "।", "यह", "हिन्दी", "है", "।"]
    assert words_of(tokenizer, THAI[0]) == ["สวัสดี", "ครับ", "วัน", "นี้", "อากาศ", "ดี"]
    assert words_of(tokenizer, "the dog") == ["the", "dog"]


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
    (short, _), (long, _) = tokenizer.encode(["a", "a dog " * 10])
    assert (len(short), len(long)) == (3, 22)
    assert tokenizer.cut(short, 5) == short
    assert tokenizer.cut(long, 5) == [*long[:4], 3]  # the suffix stays


def test_errors_name_the_culprit():
    with pytest.raises(UserError, match="no tokenizer at '/nowhere'"):
        load_pretrained("/nowhere")
    with pytest.raises(UserError, match="vocab_size 10 is too small"):
        TokenizerSettings(vocab_size=10)


def _train(queue) -> None:
    queue.put(get_tokenizer(TokenizerSettings(vocab_size=350), CORPUS).fingerprint())


@pytest.mark.slow
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
