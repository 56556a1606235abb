"""The LightningDataModule that methods and tasks train on."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.distributed
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from ssl_nlp.corpora import Corpus, HubDataset
from ssl_nlp.corpora.base import Split
from ssl_nlp.corpora.digests import check_digests, check_expected
from ssl_nlp.data import trainer_state as state
from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.data.batch_maker import BatchMaker, RowKind, Rows, check_kind
from ssl_nlp.data.checks import check_labels, check_sizes, check_unchanged, note_of_cut_off
from ssl_nlp.data.few_labels import class_counts, few_of_each_class
from ssl_nlp.data.labels import KINDS, LabelKind, Labels
from ssl_nlp.data.loader import ResumableLoader
from ssl_nlp.data.sampler import BatchSampler, FixedBatches, InOrder, ResumableSampler
from ssl_nlp.data.store import TextStatistics, TokenStore, open_store
from ssl_nlp.data.stream import StreamBatches
from ssl_nlp.data.tokenizer import Tokenizer, TokenizerSettings, choose_tokenizer
from ssl_nlp.data.units import Unit, maker_of
from ssl_nlp.errors import UserError
from ssl_nlp.seeding import run_seed


class TextDataModule(LightningDataModule):
    """Batches of tokens from a corpus.

    Everything slow happens once and is cached: extracting the corpus, training the tokenizer, tokenizing.

    Args:
        corpus: where the text comes from.
        tokenizer: which tokenizer to train or take. A pretrained encoder or a checkpoint brings its own, which is
            used instead.
        unit: `block` packs documents into rows without padding, for language modelling; `sentence` makes rows of one
            sentence each and batches of similar length; `text` makes rows of one document each, for tasks; `pair` makes
            batches of two texts that belong together: a document and its `pair`, or else two consecutive sentences of it,
            each sentence in one pair. Or a `BatchMaker` of your own.
        length: tokens of a row; a sentence is truncated to it, and each text of a pair to half of it. A run says once
            which share of the training texts and tokens is cut off (of a stream, of the valid split).
        batch_size: rows of a batch on one device.
        workers: processes that prepare batches beside the training; 0 prepares them in the training process, which is
            fast enough on CPUs.
        seed: order of the batches; None takes the run's seed.
        labels: which labels of the documents the batches carry, for tasks; null for none, as methods need none.
            `class` and `score`: one of each document; `classes`: any number of them; `tags`: one of each word; `spans`:
            parts of the text; `relation`: the class of two entities, marked as <e1>one</e1> and <e2>other</e2> in it.
        classes: all classes in the order of their numbers; null takes those of the train split, in alphabetical order.
            A stream cannot be read beforehand and needs the list.
        labels_per_class: train on this number of documents of each class, the same ones for every model and tokenizer;
            null for all. The tokenizer still learns from all texts of the train split.
        labels_seed: which documents these are.
        similar_lengths: make batches of rows of similar length, which saves padding; false trains on batches of any rows.
        digests: the digests of the splits that are expected, 12 digits or more of each, in quotes; refuses other text.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: TokenizerSettings | None = None,
        unit: Unit | BatchMaker = "block",
        length: int = 256,
        batch_size: int = 32,
        workers: int = 0,
        seed: int | None = None,
        labels: LabelKind | None = None,
        classes: list[str] | None = None,
        labels_per_class: int | None = None,
        labels_seed: int = 0,
        similar_lengths: bool = True,
        digests: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.maker = unit if isinstance(unit, BatchMaker) else maker_of(unit)
        check_kind(self.maker)
        sizes = {"length": length, "batch_size": batch_size, "workers": workers, "seed": seed or 0}
        check_sizes(self.maker, sizes)
        check_labels(self.maker, labels, classes, labels_per_class)
        check_digests(digests or {})
        self.corpus = corpus
        self.settings = tokenizer or TokenizerSettings()
        self.unit: RowKind = self.maker.kind
        self.length, self.batch_size, self.workers, self.seed = length, batch_size, workers, seed
        self.labels, self.classes = labels, classes
        self.labels_per_class, self.labels_seed, self.similar_lengths = labels_per_class, labels_seed, similar_lengths
        self.digests = digests or {}
        self.trained_on: dict[str, dict[str, Any]] = {}
        self._tokenizer: Tokenizer | None = None
        self._stores: dict[str, TokenStore] = {}
        self._cursors: list[dict[int, dict[str, Any]]] = []  # of each rank's streams
        self._stream: StreamBatches | None = None
        self._train_loader: ResumableLoader | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The one that the model wants, if it says so; else it is trained or loaded on first use.

        Raises:
            UserError: the model and the settings name different ones.
        """
        if self._tokenizer is None:
            model = state.model_of(self.trainer)
            wanted = None if model is None else model.tokenizer_wanted
            self._tokenizer = choose_tokenizer(self.settings, self.corpus, wanted)
        return self._tokenizer

    def continue_with(self, tokenizer: Tokenizer, trained_on: dict[str, dict[str, Any]]) -> None:
        """Use the tokenizer of a checkpoint instead of the settings', and insist on the data it was trained on.

        Args:
            tokenizer: of the checkpoint.
            trained_on: `state_dict()["splits"]` of the data module that it was trained with; empty for any data.
        """
        self._tokenizer, self.trained_on = tokenizer, trained_on

    def store(self, split: Split) -> TokenStore:
        """The tokens of a split, from the cache or tokenized now.

        Raises:
            UserError: `digests` or the checkpoint of `continue_with` insist on others.
        """
        if split not in self._stores:
            store = open_store(self.corpus, split, self.tokenizer, self.maker, self._labels(split))
            check_unchanged(self.corpus, split, store, self.trained_on)
            check_expected(self.corpus, split, store.text_digest, self.digests)
            self._stores[split] = store
        return self._stores[split]

    @property
    def class_names(self) -> list[str]:
        """The classes by their number in `TokenBatch.labels`, the same on all ranks.

        Raises:
            UserError: `data.labels` names no kind of labels that has classes.
        """
        labels = self._labels("valid")
        if labels is None or labels.class_names is None:
            raise UserError("there are no classes: set data.labels to class, classes, tags, spans or relation")
        return labels.class_names

    def _labels(self, split: Split) -> Labels | None:
        """The kind and the classes of the labels of a split; None without `data.labels`."""
        if self.labels is None:
            return None
        kind, names = KINDS[self.labels], self.classes
        if names is None and kind.has_names and self._streams():
            if self.labels != "spans":  # which may have no names
                raise UserError("the classes of a stream are not known beforehand: list them in data.classes")
            names = []
        if names is None and kind.has_names and split != "train":
            names = self.trained_on.get("train", {}).get("class_names")
            names = names or self.store("train").description()["class_names"]
        return kind(names)

    def statistics(self, split: Split) -> TextStatistics:
        """Documents, tokens and bytes of a split."""
        return self.store(split).statistics

    @property
    def counted(self) -> TokenStore:
        """The train split or, if that is a stream, the valid split: the text that is counted before a training."""
        return self.store(self._counted())

    def text_digests(self) -> dict[str, str]:
        """The digests of the splits that were read so far; a stream has none."""
        return {split: store.text_digest for split, store in self._stores.items()}

    def token_counts(self) -> npt.NDArray[np.int64]:
        """(V,) how often each token occurs in the train split; of a stream, in the valid split."""
        return self.counted.token_counts(self.tokenizer.vocab_size)

    def text_lengths(self) -> npt.NDArray[np.int64]:
        """(N,) the number of tokens of each text that `token_counts` counts, without those of its frame."""
        frame = len(self.tokenizer.prefix) + len(self.tokenizer.suffix)
        return np.diff(self.store(self._counted()).starts) - frame

    def prepare_data(self) -> None:
        """Build every cache that the run needs, before other processes of this machine look for it."""
        splits = state.splits_of(self.trainer)
        if self.trained_on and "test" in splits:  # no run has seen the test split: check the valid split instead
            splits += ("valid",)
        for split in splits:
            if split != "train" or not self._streams():
                self.store(split)
        training = state.stage_of(self.trainer) == "fit" and state.rank_and_ranks(self.trainer)[0] == 0
        if training and (note := note_of_cut_off(self.maker, self.counted, self._counted(), self.length)):
            print(f"note: {note}", file=sys.stderr, flush=True)

    def setup(self, stage: str) -> None:
        """Lightning's first hook: let the model meet the data. A training that begins reads a stream from its beginning."""
        if stage == "fit" and not state.batches_done(self.trainer):
            self._cursors, self._stream = [], None
        if (model := state.model_of(self.trainer)) is not None:
            model.connect_data(self, stage)

    def train_dataloader(self) -> DataLoader[TokenBatch]:
        """Batches of the train split, from where a resumed run left off."""
        if self._streams():
            if state.overfits(self.trainer):
                raise UserError("trainer.overfit_batches cannot repeat a stream: use trainer.limit_train_batches")
            self._train_loader = self._stream_loader()
        else:
            self._train_loader = self._loader("train")
        return self._train_loader

    def val_dataloader(self) -> DataLoader[TokenBatch]:
        """Batches of the valid split, the same ones in the same order every time."""
        return self._loader("valid")

    def test_dataloader(self) -> DataLoader[TokenBatch]:
        """Batches of the test split, the same ones in the same order every time."""
        return self._loader("test")

    predict_dataloader = test_dataloader

    def rows(self, split: Split) -> Rows:
        """The rows of a split; of the train split those that training reads."""
        store = self.store(split)
        rows = self.maker.rows(store, self.tokenizer, self.length)
        if split != "train" or self.labels_per_class is None:
            return rows
        return few_of_each_class(rows, store, self.labels_per_class, self.labels_seed)

    def class_counts(self) -> tuple[npt.NDArray[np.int64], int]:
        """The number of training rows of each class, (C,), and of those that have any label.

        Raises:
            UserError: the train split is a stream.
        """
        if self._streams():
            raise UserError("the classes of a stream cannot be counted beforehand: give class_weights as numbers")
        return class_counts(self.rows("train"), self.store("train"))

    def _loader(self, split: Split) -> ResumableLoader:
        rows = self.rows(split)
        sampler = self._sampler(split, rows)
        epoch, position = state.epoch_and_position(self.trainer) if split == "train" else (0, 0)
        if state.overfits(self.trainer):
            fixed = FixedBatches(rows, [*sampler])
            return ResumableLoader(
                fixed, sampler=InOrder(fixed, position), batch_size=None, pin_memory=state.is_on_cuda(self.trainer)
            )
        sampler.epoch, sampler.position = epoch, position
        return ResumableLoader(
            rows,  # type: ignore[arg-type]  # indexed by a list of rows: one call makes a batch
            sampler=sampler,
            batch_size=None,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=state.is_on_cuda(self.trainer),
        )

    def _sampler(self, split: Split, rows: Rows) -> ResumableSampler:
        return self._batches(split, len(rows), rows.sizes)

    def _batches(self, split: Split, rows: int, sizes: npt.NDArray[np.int64] | None) -> BatchSampler:
        """Batches of that many rows, in a new order in every epoch of a training."""
        training = split == "train"
        sizes = sizes if self.similar_lengths or not training else None
        place, seed = state.rank_and_ranks(self.trainer), self._seed() if training else 0
        return BatchSampler(rows, sizes, self.batch_size, *place, seed=seed, shuffle=training)

    def _stream_loader(self) -> ResumableLoader:
        assert isinstance(self.corpus, HubDataset)
        chosen = {"labels_per_class": self.labels_per_class is not None, "similar_lengths": not self.similar_lengths}
        chosen["digests"] = "train" in self.digests
        for name in [name for name, wanted in chosen.items() if wanted]:
            raise UserError(
                f"data.{name} needs the whole text, not a stream: set corpus.streaming false, or leave it out"
            )
        rank, ranks = state.rank_and_ranks(self.trainer)
        self._cursors = self._cursors or [{} for _ in range(ranks)]
        self._stream = StreamBatches(
            self.corpus,
            self.tokenizer,
            self.maker,
            self.length,
            self.batch_size,
            rank,
            ranks,
            self._seed(),
            self._cursors[rank],
            turn=state.batches_done(self.trainer) % max(self.workers, 1),
            labels=self._labels("train"),
        )
        return ResumableLoader(
            self._stream, batch_size=None, num_workers=self.workers, pin_memory=state.is_on_cuda(self.trainer)
        )

    def _counted(self) -> Split:
        """The split that stands for the training text in counts: a stream is not read beforehand."""
        return "valid" if self._streams() else "train"

    def _streams(self) -> bool:
        return isinstance(self.corpus, HubDataset) and self.corpus.streaming

    def on_before_batch_transfer(self, batch: TokenBatch, dataloader_idx: int) -> TokenBatch:
        """Note the position of the stream after a batch that is about to be used; batches prepared ahead do not count."""
        if self._train_loader is not None and self._train_loader.batches is not None:
            self._train_loader.batches.use(batch)
        if isinstance(batch, TokenBatch) and batch.cursor is not None:
            assert self._stream is not None
            self._stream.go_on_after(batch.cursor)
        return batch

    @property
    def looks_ahead(self) -> bool:
        """Whether it knows the upcoming batches: not if a subclass makes another loader."""
        return self._train_loader is not None and self._train_loader.batches is not None

    def upcoming(self, number: int) -> list[TokenBatch]:
        """The training batch that is about to be used and the next ones: `number` in all, as the loader made them."""
        assert self._train_loader is not None and self._train_loader.batches is not None
        return self._train_loader.batches.upcoming(number)

    def state_dict(self) -> dict[str, Any]:
        """A description of the text that the run is trained on, and the positions of the streams of all ranks.

        Corpora on disk need only Lightning's count of batches to resume.
        """
        splits = {name: store.description() for name, store in self._stores.items()}
        if self._stream is None:
            return {"splits": splits}
        rank, ranks = state.rank_and_ranks(self.trainer)
        cursors: list[Any] = [self._cursors[rank]] * ranks
        if ranks > 1:
            torch.distributed.all_gather_object(cursors, self._cursors[rank])
        return {"splits": splits, "cursors": cursors, "workers": self.workers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume where `state_dict` was taken.

        Raises:
            UserError: the text has changed or, for a stream, the number of ranks or workers.
        """
        if state.stage_of(self.trainer) != "fit":
            return
        for split, store in self._stores.items():
            check_unchanged(self.corpus, split, store, state_dict.get("splits", {}))
        if "cursors" not in state_dict:
            return
        if len(state_dict["cursors"]) != state.rank_and_ranks(self.trainer)[1] or state_dict["workers"] != self.workers:
            raise UserError(
                f"this stream was started with {len(state_dict['cursors'])} processes of {state_dict['workers']} workers: "
                "resume it with the same numbers"
            )
        self._cursors = state_dict["cursors"]

    def _seed(self) -> int:
        return run_seed() if self.seed is None else self.seed
