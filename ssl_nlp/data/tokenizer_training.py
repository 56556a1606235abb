"""Training a tokenizer on a corpus: the same texts give the same tokenizer, in every process and on every machine.

The trainers of `tokenizers` for WordPiece and Unigram do not promise that: they number pieces in the order of a hash
table, and break ties by number. WordPiece is therefore trained as BPE with a prefix, over an alphabet in a given order,
and Unigram by SentencePiece, in one thread.
"""

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

PAD, UNK, MASK, BOUNDARY = "<pad>", "<unk>", "<mask>", "<s>"
SENTINEL = "<extra_id_{}>"  # T5's name of the tokens that stand for missing spans
LONGEST_WORD = 100  # characters: WordPiece takes time quadratic in them, and cuts longer words

_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
# GPT-2's rules, except that marks (the vowels of Hindi, say) belong to the letter before them, and Chinese and Japanese
# do not join with other scripts. For English they are GPT-2's.
_PRE_TOKENS = (
    rf"'(?:[sdmt]|ll|ve|re)| ?[{_SPACELESS}]+| ?(?:(?![{_SPACELESS}])\p{{L}}[\p{{M}}\u200c\u200d]*)+"
    r"| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
WIDE = rf"{_SPACELESS}\u3000-\u303f\uff00-\uffef"  # with punctuation
_SEPARATORS = "\0\t\n\r"  # SentencePiece reads them as ends of sentences, or not at all


def train_backend(
    kind: str, vocab_size: int, lowercase: bool, special: list[str], texts: Callable[[], Iterator[str]]
) -> tokenizers.Tokenizer:
    """A tokenizer of at most `vocab_size` entries that knows `special` and was trained on `texts`.

    Characters that do not fit into the vocabulary, the rarest ones, become `<unk>`; byte-level BPE has none.

    Args:
        kind: bpe, wordpiece, unigram or char. The last takes all characters that occur.
        vocab_size: special tokens included.
        lowercase: fold case and, for WordPiece, strip the accents of Latin letters.
        special: special tokens, which get the first ids. All kinds but bpe need `<unk>` among them.
        texts: what to train on, from the beginning at each call.
    """
    train = {"bpe": _bpe, "wordpiece": _wordpiece, "unigram": _unigram, "char": _characters}[kind]
    backend = train(vocab_size, lowercase, special, texts)
    backend.add_special_tokens(special)
    return backend


def _bpe(
    vocab_size: int, lowercase: bool, special: list[str], texts: Callable[[], Iterator[str]]
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.BPE())
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PRE_TOKENS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts(), trainer)
    return backend


def _wordpiece(
    vocab_size: int, lowercase: bool, special: list[str], texts: Callable[[], Iterator[str]]
) -> tokenizers.Tokenizer:
    """BERT's tokenizer. Every character of the vocabulary may begin a word and, unless it is a word, continue one."""
    normalizer: normalizers.Normalizer = normalizers.BertNormalizer(lowercase=False)
    if lowercase:
        latin_accents = normalizers.Replace(Regex(r"(?<=\p{Latin})[\u0300-\u036f]+"), "")
        normalizer = normalizers.Sequence(
            [normalizer, normalizers.NFD(), latin_accents, normalizers.NFC(), normalizers.Lowercase()]
        )
    pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.FixedLength(length=LONGEST_WORD)]
    )

    def continues(character: str) -> bool:
        return len(pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(f"a{character}"))) == 1

    alphabet: list[str] = []
    continuing: list[str] = []
    for character in _alphabet(texts(), normalizer):
        forms = 1 + continues(character)
        if len(special) + len(alphabet) + len(continuing) + forms > vocab_size:
            break
        alphabet.append(character)
        continuing += [f"##{character}"] * (forms - 1)
    trained = tokenizers.Tokenizer(models.BPE(continuing_subword_prefix="##"))
    trained.normalizer, trained.pre_tokenizer = normalizer, pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special + sorted(continuing),  # the first ids are given in this order
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix="##",
        show_progress=False,
    )
    trained.train_from_iterator(texts(), trainer)
    vocabulary = trained.get_vocab(with_added_tokens=True)
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token=UNK, max_input_chars_per_word=LONGEST_WORD))
    backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizer
    space_between = decoders.Replace(Regex(rf"(?<=[{WIDE}]) (?=[{WIDE}])"), "")
    backend.decoder = decoders.Sequence([decoders.WordPiece(), decoders.Fuse(), space_between])
    return backend


def _unigram(
    vocab_size: int, lowercase: bool, special: list[str], texts: Callable[[], Iterator[str]]
) -> tokenizers.Tokenizer:
    """Kudo's Unigram model (arXiv:1804.10959), trained by SentencePiece."""
    import sentencepiece

    normalizer = normalizers.Lowercase() if lowercase else None
    found = list(_alphabet(texts(), normalizer))
    kept = found[: vocab_size - len(special) - 1]  # and the sign for a space
    separators = [character for character in kept if character in _SEPARATORS]
    cut = str.maketrans(dict.fromkeys([*found[len(kept) :], *_SEPARATORS], "\n"))
    lines = chain.from_iterable(
        (normalizer.normalize_str(text) if normalizer else text).translate(cut).split("\n") for text in texts()
    )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for line in lines if line),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocab_size - len(special) - len(separators) + 1,  # of which one, <unk>, is among the special ones
        hard_vocab_limit=False,  # a small corpus may have less
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        max_sentence_length=2**30,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        num_threads=1,  # threads would share the sums, and their number the rounding
        minloglevel=2,
    )
    trained = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(trained.id_to_piece(i), trained.get_score(i)) for i in range(1, trained.get_piece_size())]
    rare = min((score for _, score in pieces), default=0.0)
    vocabulary = [(token, 0.0) for token in special] + pieces + [(character, rare) for character in separators]
    backend = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=special.index(UNK)))
    if normalizer:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return backend


def _characters(
    vocab_size: int, lowercase: bool, special: list[str], texts: Callable[[], Iterator[str]]
) -> tokenizers.Tokenizer:
    backend = tokenizers.Tokenizer(models.WordLevel(unk_token=UNK))
    if lowercase:
        backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    backend.train_from_iterator(
        texts(), trainers.WordLevelTrainer(vocab_size=1_000_000, special_tokens=special, show_progress=False)
    )
    return backend


def _alphabet(texts: Iterable[str], normalizer: normalizers.Normalizer | None) -> Iterator[str]:
    """The characters of the normalized texts, a space left out, the most frequent first, equal ones by code point."""
    raw: Counter[str] = Counter()
    for text in texts:
        raw.update(text)
    counts: Counter[str] = Counter()
    for character, number in raw.items():
        for normalized in normalizer.normalize_str(character) if normalizer else character:
            counts[normalized] += number
    del counts[" "]
    return (character for character, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
