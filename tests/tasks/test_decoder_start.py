"""An encoder-decoder that begins with the encoder and the decoder of a pretraining."""

import pytest
import torch

from ssl_nlp.data import Tokenizer, TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Trained, Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedLM, SpanCorruption, TextInfilling
from ssl_nlp.runs.ancestry import is_ancestry, spoken
from ssl_nlp.tasks import SequenceToSequence
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import save_untrained


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return get_tokenizer(TokenizerSettings(vocab_size=320, sentinels=8), ListCorpus(random_texts(40)))


@pytest.fixture(scope="module")
def runs(tokenizer, tmp_path_factory) -> dict[str, tuple[torch.nn.Module, str]]:
    """Encoder-decoders with random weights, and their checkpoints."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    for name, kind, settings in (
        ("t5", SpanCorruption, {}),
        ("bart", TextInfilling, {"tied_embeddings": False}),
        ("bert", MaskedLM, {}),
    ):
        torch.manual_seed(len(found))
        method = kind(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64), **settings)
        found[name] = method.eval(), str(save_untrained(method, tokenizer, folder / f"{name}.ckpt"))
    return found


def started(path: str, tokenizer: Tokenizer, decoder: bool = True, **settings) -> SequenceToSequence:
    torch.manual_seed(9)
    task = SequenceToSequence(Trained(path, decoder=decoder), **{"decoder_layers": 2} | settings)
    task.connect(tokenizer)
    return task.eval()


@pytest.mark.parametrize(("name", "tied"), [("t5", True), ("t5", False), ("bart", False)])
def test_it_begins_with_all_weights_of_the_decoder(name, tied, runs, tokenizer, tmp_path):
    method, path = runs[name]
    task = started(path, tokenizer, tied_embeddings=tied)
    for part in ("encoder", "decoder"):
        for key, weight in getattr(method, part).state_dict().items():
            assert torch.equal(getattr(task, part).state_dict()[key], weight), key
    assert (task.decoder.transformer.embedding is task.encoder.embedding) == tied
    assert any(
        not torch.equal(weight, task.decoder.state_dict()[key])
        for key, weight in started(path, tokenizer, decoder=False, tied_embeddings=tied).decoder.state_dict().items()
    )
    [last] = task.encoder.ancestry
    assert is_ancestry([last]) and spoken(last) == f"{path} with its decoder, step 0, tokens unknown"
    loaded = SequenceToSequence.load_from_checkpoint(save_untrained(task, tokenizer, tmp_path / "task.ckpt"))
    assert loaded.encoder.ancestry == (last,)
    assert loaded.encoder.decoder_start is None
    assert loaded.predict(["the dog sees"]) == task.predict(["the dog sees"])


def test_a_pretraining_goes_on_with_another_corruption(runs, tokenizer):
    method, path = runs["t5"]
    other = TextInfilling(Trained(path, decoder=True))
    other.connect(tokenizer)
    assert torch.equal(other.decoder.head.dense.weight, method.decoder.head.dense.weight)


def test_decoders_that_do_not_fit_are_refused_in_one_line(runs, tokenizer):
    with pytest.raises(UserError, match="has no decoder that reads the states of its encoder: leave encoder.decoder"):
        Trained(runs["bert"][1], decoder=True)
    with pytest.raises(UserError, match="has a token embedding of its own.* set tied_embeddings to false"):
        started(runs["bart"][1], tokenizer)
    for settings in ({"decoder_layers": 1}, {"decoder_layers": 3}, {"decoder_width": 32, "tied_embeddings": False}):
        with pytest.raises(UserError, match="has another shape .* give this one the decoder_layers and decoder_width"):
            started(runs["t5"][1], tokenizer, **settings)
    for method in (MaskedLM(Trained(runs["t5"][1], decoder=True)), SequenceToSequence(form="decoder_only")):
        method.encoder = Trained(runs["t5"][1], decoder=True)
        with pytest.raises(UserError, match="has no decoder to start from a run's: leave encoder.decoder out"):
            method.connect(tokenizer)
    assert Trained(runs["t5"][1], untrained=True, decoder=True).decoder_start is None
