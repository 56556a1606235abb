"""From text to token ids and back, with a tokenizer trained on the corpus or a pretrained one."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path
from typing import Literal

import tokenizers
from tokenizers import processors

from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.corpora.base import Corpus
from ssl_nlp.data.tokenizer_training import BOUNDARY, MASK, PAD, SENTINEL, UNK, train_backend
from ssl_nlp.data.word_tokens import WordCutter, WordEncoding, train_words
from ssl_nlp.data.words import WORD_RULES, needs_word_rules, trimmed, word_starts
from ssl_nlp.errors import UserError


@dataclass
class TokenizerSettings:
    """The tokenizer to train on the corpus, or the pretrained one to use."""

    kind: Literal["bpe", "wordpiece", "unigram", "char", "word"] = "bpe"
    """Byte-level BPE, WordPiece, Unigram (SentencePiece's model), or one token a character or a word."""
    vocab_size: int = 8192
    """Entries of the vocabulary, special tokens included. A character vocabulary takes what the text has."""
    lowercase: bool = False
    """Fold case (and, for WordPiece, strip the accents of Latin letters) before anything else."""
    documents: int = 200_000
    """Train on at most this many documents of the train split, on both texts of those with a pair."""
    min_count: int = 1
    """Words that occur less often in these documents become the unknown token; for kind `word`."""
    sentinels: int = 0
    """Special tokens `<extra_id_0>`, `<extra_id_1>`, ... that stand for missing spans, as T5's do, for `SpanCorruption`."""
    name: str | None = None
    """A pretrained tokenizer by its name on the Hugging Face hub or a local path; nothing is trained then."""

    def __post_init__(self) -> None:
        if self.sentinels < 0:
            raise UserError(f"tokenizer.sentinels must be 0 or more, not {self.sentinels}")
        least = max(300, 260 + self.sentinels)
        if self.vocab_size < least:
            needed = "all bytes" + " and sentinels" * (self.sentinels > 0)
            raise UserError(f"tokenizer.vocab_size {self.vocab_size} is too small: use {least} ({needed}) or more")
        if self.min_count < 1 or (self.min_count > 1 and self.kind != "word"):
            raise UserError(f"tokenizer.min_count {self.min_count}: use 1 or more, and more than 1 for kind word alone")
        if self.documents < 1:
            raise UserError(f"tokenizer.documents {self.documents} leaves nothing to train on: use 1 or more")


class Tokenizer:
    """A `tokenizers.Tokenizer` that knows its special tokens and how it frames a document.

    Every document becomes `prefix + content + suffix`. Ours have the prefix `<s>` and no suffix: the next `<s>` also
    ends a document, as in GPT-2. A pretrained tokenizer keeps its own frame ([CLS] ... [SEP]).

    Args:
        serialized: the JSON of a `tokenizers.Tokenizer`, as `serialize` gives it. It is all that a checkpoint needs.
    """

    def __init__(self, serialized: str) -> None:
        try:
            roles = json.loads(serialized)
            self._backend = tokenizers.Tokenizer.from_str(roles["tokenizer"])
        except Exception as error:  # the library raises nothing more specific
            raise UserError(f"the tokenizer is broken: copy or train it again ({error})") from error
        self._backend.encode_special_tokens = True  # "<mask>" in a text is text
        self._backend.no_padding()
        self._backend.no_truncation()
        self._roles = roles
        self.pad_id: int = roles["pad"]
        self.mask_id: int | None = roles["mask"]
        self.prefix: list[int] = roles["prefix"]
        self.suffix: list[int] = roles["suffix"]
        self.special_ids: list[int] = sorted(roles["special"])
        self.unk_id: int | None = roles["unk"]
        self.sentinel_ids: list[int] = [*self._sentinels()]
        self._reserved = set(self.special_ids) - {self.unk_id}
        words = roles.get("words")
        self._cutter = None if words is None else WordCutter(self._backend.get_vocab(), roles["unk"], **words)

    def _sentinels(self) -> Iterator[int]:
        """The special tokens that stand for missing spans, in the order of their numbers."""
        for number in count():
            token = self._backend.token_to_id(SENTINEL.format(number))
            if token is None or token not in self.special_ids:
                return
            yield token

    @cached_property
    def vocab_size(self) -> int:
        """The number of rows that an embedding needs: the largest id plus one."""
        return max(self._backend.get_vocab(with_added_tokens=True).values()) + 1

    @property
    def end_id(self) -> int:
        """The token that a causal model predicts at the end of a document."""
        return self.suffix[0] if self.suffix else self.prefix[0]

    @property
    def mask_token(self) -> str | None:
        """The mask as it is written in a text for `encode_with_masks`."""
        return None if self.mask_id is None else self._backend.id_to_token(self.mask_id)

    def serialize(self) -> str:
        """Everything about this tokenizer in one string, for `Tokenizer(...)`."""
        return json.dumps(self._roles)

    def fingerprint(self) -> str:
        """A key that differs between tokenizers that encode differently."""
        return fingerprint(self._roles)

    def encode(self, texts: list[str]) -> list[tuple[list[int], list[bool]]]:
        """Frame and encode each text: token ids, and for each token whether a word begins there.

        Words are the pieces into which the tokenizer cuts a text before it looks for tokens. If these are not words
        (characters; scripts with marks or without spaces), words come from `ssl_nlp.data.words`, and a token that holds
        parts of two words joins them.
        """
        return [(ids, starts) for ids, starts, _ in self._framed(texts)]

    def encode_open(self, texts: list[str], spells: Callable[[str], bool]) -> tuple[list[list[int]], list[str]]:
        """As `encode`, but words that the vocabulary lacks get ids from `vocab_size` on where `spells` is true of them.

        Returns the ids of each text, and these words in the order of their ids. Only tokens of kind `word` lack any.
        """
        rows, numbers = [], dict[str, int]()
        for ids, _, encoding in self._framed(texts):
            if self._cutter is not None and isinstance(encoding, WordEncoding) and self.unk_id in ids:
                for place, word in enumerate(self._cutter.words(encoding), start=len(self.prefix)):
                    if ids[place] == self.unk_id and spells(word):
                        ids[place] = numbers.setdefault(word, self.vocab_size + len(numbers))
            rows.append(ids)
        return rows, [*numbers]

    def encode_with_offsets(self, texts: list[str]) -> list[tuple[list[int], list[bool], list[tuple[int, int] | None]]]:
        """As `encode`, and the characters [start, stop) of each token, without white space before it.

        The tokens of the frame have None. Several tokens may be the bytes of one character.
        """
        before, after = ([None] * len(side) for side in (self.prefix, self.suffix))
        return [
            (ids, starts, [*before, *trimmed(text, encoding.offsets), *after])
            for text, (ids, starts, encoding) in zip(texts, self._framed(texts), strict=True)
        ]

    def _encodings(self, texts: list[str]) -> Sequence[tokenizers.Encoding | WordEncoding]:
        """Each text without the frame."""
        if self._cutter is not None:
            return [self._cutter.encode(text) for text in texts]
        return self._backend.encode_batch(texts, add_special_tokens=False)

    def _framed(self, texts: list[str]) -> Iterator[tuple[list[int], list[bool], tokenizers.Encoding | WordEncoding]]:
        """Ids and word starts of each framed text, and the encoding without the frame."""
        encodings = self._encodings(texts)
        before, after = [True] * len(self.prefix), [True] * len(self.suffix)
        for text, encoding in zip(texts, encodings, strict=True):
            ids = encoding.ids
            if not self._reserved.isdisjoint(ids):  # a Unigram model knows the spelling of its special tokens
                ids = [self.unk_id if token in self._reserved else token for token in ids]
            if isinstance(encoding, WordEncoding):
                starts = [True] * len(ids)
            elif self._roles["characters"] or needs_word_rules(text):
                starts = word_starts(text, encoding.offsets)
            else:
                words = encoding.word_ids
                starts = [word is None or word != last for word, last in zip(words, [None, *words], strict=False)]
            yield self.prefix + ids + self.suffix, before + starts + after, encoding

    def cut(self, ids: list[int], length: int) -> list[int]:
        """A framed text as `encode` gives it, cut to `length` tokens if it is longer; its suffix stays at the end."""
        return ids if len(ids) <= length else ids[: length - len(self.suffix)] + self.suffix

    def encode_with_masks(self, text: str, masks: Sequence[int] | None = None) -> list[int]:
        """Frame and encode a text in which the mask token (or `[MASK]`) stands for a masked position.

        Args:
            text: to encode.
            masks: ids for the masks in the order of the text; None: the mask token for all of them.

        Raises:
            UserError: there is no mask token, or no mask in the text, or more of them than ids.
        """
        if masks is None and self.mask_id is None:
            raise UserError("this tokenizer has no mask token")
        pieces = text.replace(self.mask_token or "[MASK]", "[MASK]").split("[MASK]")
        number = len(pieces) - 1
        if not number:
            raise UserError(f"there is no [MASK] in {text[:40]!r}: write it where words are missing")
        fills = [self.mask_id] * number if masks is None else masks[:number]
        if len(fills) < number:
            raise UserError(f"{text[:40]!r} has {number} masks, and there are tokens for {len(fills)}: leave some out")
        if not self._roles["characters"]:  # the space before a word belongs to the word that the mask stands for
            pieces = [piece.rstrip(" ") for piece in pieces[:-1]] + pieces[-1:]
        ids: list[int] = []
        for i, piece in enumerate(pieces):
            ids += [*fills[max(i - 1, 0) : i], *self._encodings([piece])[0].ids]
        return self.prefix + ids + self.suffix

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids, special tokens left out."""
        return self._backend.decode(list(ids), skip_special_tokens=True)

    @property
    def whole_words(self) -> bool:
        """Whether tokens are words and punctuation marks (kind `word`)."""
        return self._cutter is not None

    def spelling(self, token_id: int) -> str | None:
        """A token as the vocabulary has it, such as `Ġdog`; None if there is none with this id."""
        return self._backend.id_to_token(token_id)

    def spellings(self) -> list[str]:
        """The text of each token, without white space around it, by id; empty for special tokens."""
        return ["" if i in self.special_ids else self.token(i).strip() for i in range(self.vocab_size)]

    def token(self, token_id: int) -> str:
        """The text of a single token, as a person would write it."""
        return self._backend.decode([token_id], skip_special_tokens=False)


def choose_tokenizer(settings: TokenizerSettings, corpus: Corpus, wanted: Tokenizer | str | None) -> Tokenizer:
    """The tokenizer that the model wants; if it wants none, the one that the settings ask for.

    Args:
        settings: those of the data; all but `name` yield to the model.
        corpus: to train a new one on.
        wanted: the one that the model was trained with, or the name of that of its pretrained encoder.

    Raises:
        UserError: the settings name another one.
    """
    named = settings.name
    if isinstance(wanted, Tokenizer):
        if named is not None and load_pretrained(named).fingerprint() != wanted.fingerprint():
            raise UserError(
                f"data.tokenizer.name {named!r} is not the tokenizer that the model was trained with, which it brings: "
                "leave it out"
            )
        return wanted
    if wanted is None:
        return get_tokenizer(settings, corpus)
    if named not in (None, wanted):
        raise UserError(f"data.tokenizer.name is {named!r} but the encoder brings {wanted!r}: leave it out")
    return load_pretrained(wanted)


def get_tokenizer(settings: TokenizerSettings, corpus: Corpus) -> Tokenizer:
    """The tokenizer that `settings` ask for; a trained one comes from the cache or is trained now."""
    if settings.name is not None:
        return load_pretrained(settings.name)
    key = fingerprint(
        "tokenizer", 2, corpus.fingerprint(), asdict(settings), tokenizers.__version__, version("sentencepiece"),
        *([WORD_RULES] if settings.kind == "word" else []),
    )  # fmt: skip

    def build(directory: Path) -> None:
        def texts() -> Iterator[str]:
            for document in islice(corpus.documents("train"), settings.documents):
                yield document.text
                if document.pair is not None:
                    yield document.pair

        serialized = train(settings, texts)
        (directory / "tokenizer.json").write_text(serialized, encoding="utf-8")

    directory = build_once(cache_dir() / "tokenizers" / key, build)
    return Tokenizer((directory / "tokenizer.json").read_text(encoding="utf-8"))


def train(settings: TokenizerSettings, texts: Callable[[], Iterator[str]]) -> str:
    """Train a tokenizer on `texts`, which are read from the beginning at each call; the result is for `Tokenizer(...)`."""
    special = [PAD, MASK, BOUNDARY] + [UNK] * (settings.kind != "bpe")
    special += map(SENTINEL.format, range(settings.sentinels))
    words = {"lowercase": settings.lowercase} if settings.kind == "word" else None
    if words is not None:
        backend = train_words(settings.vocab_size, settings.min_count, settings.lowercase, special, texts)
    else:
        backend = train_backend(settings.kind, settings.vocab_size, settings.lowercase, special, texts)
    boundary = backend.token_to_id(BOUNDARY)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOUNDARY} $A", pair=f"{BOUNDARY} $A {BOUNDARY} $B", special_tokens=[(BOUNDARY, boundary)]
    )
    ids = {token: backend.token_to_id(token) for token in special}
    characters = settings.kind == "char"
    return _describe(backend, list(ids.values()), ids[MASK], boundary, ids[PAD], ids.get(UNK), characters, words)


def load_pretrained(name: str) -> Tokenizer:
    """A pretrained tokenizer by hub name or local path.

    Raises:
        UserError: it cannot be found, or has no fast (Rust) implementation.
    """
    from transformers import AutoTokenizer
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # its warnings precede an error that says the same in one line
    try:
        pretrained = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"no tokenizer at {name!r}: name a local folder or a model on the hub ({reason})") from error
    finally:
        logging.set_verbosity(verbosity)
    backend = getattr(pretrained, "backend_tokenizer", None)
    if backend is None:
        raise UserError(f"the tokenizer of {name!r} has no fast implementation: convert it to a tokenizer.json first")
    backend.no_padding()  # some are published with a fixed length
    backend.no_truncation()
    candidates = (pretrained.bos_token_id, pretrained.eos_token_id, pretrained.sep_token_id, pretrained.cls_token_id)
    boundary = next((token_id for token_id in candidates if token_id is not None), None)
    if boundary is None:
        raise UserError(f"the tokenizer of {name!r} has no bos, eos, sep or cls token to separate documents with")
    special, mask = pretrained.all_special_ids, pretrained.mask_token_id
    return Tokenizer(_describe(backend, special, mask, boundary, pretrained.pad_token_id, pretrained.unk_token_id))


def _describe(
    backend: tokenizers.Tokenizer,
    special: list[int],
    mask: int | None,
    boundary: int,
    pad: int | None,
    unk: int | None,
    characters: bool = False,
    words: dict[str, bool] | None = None,
) -> str:
    """The JSON that `Tokenizer` reads: the backend and the roles of its tokens."""
    content = backend.encode("a", add_special_tokens=False).ids
    framed = backend.encode("a", add_special_tokens=True).ids
    start = next(i for i in range(len(framed)) if framed[i : i + len(content)] == content)
    prefix, suffix = framed[:start], framed[start + len(content) :]
    roles = {
        "tokenizer": backend.to_str(),
        "special": special,
        "mask": mask,
        "unk": unk,
        "pad": boundary if pad is None else pad,
        "prefix": prefix or ([] if suffix else [boundary]),
        "suffix": suffix,
        "characters": characters,
        **({} if words is None else {"words": words}),
    }
    return json.dumps(roles)
