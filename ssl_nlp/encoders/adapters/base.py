"""The base classes of adapters."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from ssl_nlp.errors import UserError
from ssl_nlp.packages import need

if TYPE_CHECKING:
    from peft import PeftConfig

    from ssl_nlp.encoders.base import Encoder

NAME = "default"  # of the one adapter in a model, in peft's names of weights


class Adapter(ABC):
    """Few trained parameters on an encoder whose own weights, its base, are frozen.

    A subclass is a frozen dataclass of its settings, which it checks in `__post_init__`. Its state is in the encoder.
    """

    mergeable: ClassVar[bool] = True  # whether its effect can be had by other weights of the encoder

    def attach(self, encoder: "Encoder") -> None:
        """Freeze the weights of an encoder and create those of the adapter, in the last step of `Encoder.build`.

        `encoder.base_names` are the names of the frozen weights from then on.

        Raises:
            UserError: the package peft is missing, or the adapter does not fit the encoder.
        """
        before = set(encoder.state_dict())
        encoder.requires_grad_(False)
        self._create(encoder)
        trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
        names = [name for name in encoder.state_dict() if base_name(name) in before and name not in trained]
        encoder.base_names = tuple(names)

    @abstractmethod
    def _create(self, encoder: "Encoder") -> None:
        """Create the parameters of the adapter in an encoder that is frozen."""

    def penalty(self, encoder: "Encoder") -> Tensor | None:
        """A scalar that training adds to the loss, if the adapter has one."""
        return None

    def after_step(self, encoder: "Encoder", step: int, steps: float) -> None:  # noqa: B027  # most have nothing to do
        """Called after each step of the optimizer; gradients are still there.

        Args:
            encoder: that the adapter is attached to.
            step: counted from 0.
            steps: of the whole training; infinite if unknown.
        """

    def remove(self, encoder: "Encoder", merge: bool) -> None:
        """Take the adapter off an encoder, all of whose weights can then be trained.

        Args:
            encoder: that the adapter is attached to.
            merge: whether to add it to the weights before.

        Raises:
            UserError: it is to be merged, and this kind cannot be.
        """
        self._remove(encoder, merge)
        encoder.base_names = ()
        encoder.requires_grad_(True)

    @abstractmethod
    def _remove(self, encoder: "Encoder", merge: bool) -> None:
        """Remove what `_create` has created."""


class LayerAdapter(Adapter):
    """An adapter that changes linear maps of the encoder, as layers of peft that take their places."""

    targets: list[str] | None
    norms_and_biases: bool

    @abstractmethod
    def config(self, encoder: "Encoder") -> "PeftConfig":
        """The configuration of peft, for the module `encoder.adapted`."""

    def _create(self, encoder: "Encoder") -> None:
        peft = need("peft", extra="peft", what="encoder.adapter")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GPT-2's matrices are transposed, which peft finds out by itself
            peft.inject_adapter_in_model(self.config(encoder), encoder.adapted, adapter_name=NAME)
        for _, layer in adapted_layers(encoder.adapted):
            layer.cast_input_dtype_enabled = False  # autocast decides, and does not need float32 in between
        if self.norms_and_biases:
            for module in encoder.modules():
                norm = "norm" in type(module).__name__.lower()
                for name, parameter in module.named_parameters(recurse=False):
                    if norm or name == "bias":
                        parameter.requires_grad_(True)

    def _remove(self, encoder: "Encoder", merge: bool) -> None:
        for name, layer in [*adapted_layers(encoder.adapted)]:
            if merge:
                layer.merge()
            encoder.adapted.set_submodule(name, layer.get_base_layer(), strict=True)
        del encoder.adapted.peft_config


def adapted_layers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers of peft in a module, with their names."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, layer in module.named_modules():
        if isinstance(layer, BaseTunerLayer):
            yield name, layer


def base_name(name: str) -> str:
    """The name that a weight of an adapted encoder has without the adapter."""
    return name.replace(".base_layer.", ".")


def linear_maps(module: nn.Module, targets: Sequence[str] | None) -> dict[str, nn.Module]:
    """The linear maps of a module by their names, all of them or those that the ends of names select.

    Raises:
        UserError: there are none, or nothing has such a name.
    """
    from transformers.pytorch_utils import Conv1D

    maps: dict[str, nn.Module] = {
        name: part for name, part in module.named_modules() if isinstance(part, nn.Linear | Conv1D)
    }
    if not maps:
        raise UserError(
            f"encoder.adapter: a {type(module).__name__} has no linear maps to adapt: leave the adapter out, or use "
            "PromptTuning"
        )
    if targets is None:
        return maps
    for target in targets:
        if not any(_ends(name, target) for name in maps):
            known = ", ".join(sorted({name.rpartition(".")[2] for name in maps}))
            raise UserError(f"encoder.adapter: no linear map is named {target}: choose targets among {known}")
    return {name: part for name, part in maps.items() if any(_ends(name, target) for target in targets)}


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
