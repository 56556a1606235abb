"""What a class of the user's own declares is created again from a checkpoint."""

import dataclasses
from typing import Any

import pytest
import torch

from ssl_nlp.encoders import Encoder, Transformer
from ssl_nlp.methods import MaskedLM, Method, MultiObjective, Projection, SimCLR
from ssl_nlp.objectives.views import Delete
from ssl_nlp.runs import checkpoint
from tests.commands.attacks import saved, tiny

pytestmark = pytest.mark.usefixtures("payload")


@dataclasses.dataclass
class Shape:
    """Settings of a user's own."""

    width: int = 3


class Shaped(SimCLR):
    """A user's own method, with settings of its own in every place where they can be."""

    def __init__(
        self,
        encoder=None,  # its type is that of the base class
        shape: Shape | None = None,
        shapes: tuple[Shape, ...] = (),
        by_name: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(encoder, **others)
        self.shape, self.shapes, self.by_name = shape, shapes, by_name


def test_what_a_class_of_ones_own_declares_is_created_again(tokenizer):
    method = Shaped(
        tiny(), Shape(4), (Shape(5), Shape(6)), {"class_path": "text"}, views=[Delete(0.3)], projection=Projection(1, 8)
    )
    content = saved(method, tokenizer)
    torch.save(content, "a.ckpt")
    loaded = Method.load_from_checkpoint("a.ckpt")
    assert isinstance(loaded, Shaped)
    assert (loaded.shape, loaded.shapes, loaded.by_name) == (Shape(4), (Shape(5), Shape(6)), {"class_path": "text"})
    assert saved(loaded, tokenizer)["ssl_nlp"] == content["ssl_nlp"]
    assert content["ssl_nlp"]["method"]["init_args"]["projection"]["init_args"] == {"depth": 1, "width": 8}


class Halved(MaskedLM):
    """A user's own method, which decides about an argument of its base, and hands on the others."""

    def __init__(self, encoder: Encoder | None = None, **others: Any) -> None:
        super().__init__(encoder, masking_rate=0.5, **others)


class Alone(Halved):
    """One that decides about the encoder, too."""

    def __init__(self, **others: Any) -> None:
        super().__init__(tiny(), **others)


class Two(MultiObjective):
    """One that decides about its objectives."""

    def __init__(self, encoder: Encoder | None = None, **others: Any) -> None:
        super().__init__(encoder, [Halved(masking_unit="word")], **others)


class Unnamed(MaskedLM):
    """One that hands on whatever it is given."""

    def __init__(self, *some: Any, **others: Any) -> None:
        super().__init__(*some, **others)


@pytest.mark.parametrize(
    ("method", "rate"),
    [
        (Halved(tiny(), masking_unit="word"), 0.5),
        (Alone(masking_unit="word"), 0.5),
        (Unnamed(tiny(), 0.4, masking_unit="word"), 0.4),
        (Unnamed(encoder=tiny(), masking_rate=0.4, masking_unit="word"), 0.4),
        (MultiObjective(tiny(), [Halved(masking_unit="word")]), 0.5),
        (Two(tiny()), 0.5),
    ],
    ids=lambda case: type(case).__name__,
)
def test_what_a_class_of_ones_own_gives_to_its_base_is_not_given_twice(method, rate, tokenizer):
    torch.save(saved(method, tokenizer), "a.ckpt")
    loaded = Method.load_from_checkpoint("a.ckpt")
    assert type(loaded) is type(method)
    [inner] = loaded.objectives.values() if isinstance(loaded, MultiObjective) else [loaded]
    assert (inner.masking_rate, inner.masking_unit) == (rate, "word")


def test_a_class_is_found_by_each_of_its_names():
    assert checkpoint.find_class("ssl_nlp.encoders.Transformer", Encoder) is Transformer
    assert checkpoint.find_class("ssl_nlp.encoders.transformer.Transformer", Encoder) is Transformer
    assert checkpoint.find_class("__main__.Shaped", Method) is Shaped  # it was a script's, and is a module's now
