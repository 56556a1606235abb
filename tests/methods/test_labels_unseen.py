"""A method never sees a label, even if the data carry them."""

import torch
from lightning.pytorch import Trainer

from ssl_nlp.corpora import Document
from ssl_nlp.data import TextDataModule, TokenizerSettings
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import SimCLR
from tests.corpus import ListCorpus, random_texts


class Labelled(ListCorpus):
    """Pairs of texts, each with a class."""

    def documents(self, split):
        for number, text in enumerate(self.texts[split]):
            yield Document(text, "even" if number % 2 else "odd", pair=text)


class Curious(SimCLR):
    """Reads the labels of what it is given."""

    def loss(self, batch):
        self.seen.append([self.trainer.state.stage.value, batch.labels, batch.pair.labels])
        return super().loss(batch)

    def embed_batch(self, batch):
        if self.trainer.predicting:
            self.seen.append(["predict", batch.labels, batch.pair.labels])
        return super().embed_batch(batch)


def test_a_method_that_looks_for_labels_finds_none(tmp_path):
    tokens = TokenizerSettings(vocab_size=320)
    data = TextDataModule(Labelled(random_texts(40)), tokens, unit="pair", length=64, batch_size=4, labels="class")
    method = Curious(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64))
    method.seen = []
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_steps=2, enable_checkpointing=False, **quiet)
    trainer.fit(method, datamodule=data)
    trainer.validate(method, datamodule=data)
    trainer.test(method, datamodule=data)
    trainer.predict(method, datamodule=data)
    assert {stage for stage, *_ in method.seen} >= {"train", "validate", "test", "predict"}
    assert all(labels is None for _, *labels_of in method.seen for labels in labels_of)
    batches = list(data.val_dataloader())
    assert set(torch.cat([batch.labels for batch in batches]).tolist()) == {0, 1}
