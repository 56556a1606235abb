"""Self-contained checkpoints: class, constructor arguments, tokenizer and weights."""

import io
import os
import pickle
from collections.abc import Mapping
from typing import Any, Self

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins.precision import DoublePrecision
from torch import Tensor
from torch.distributed.tensor import DTensor

from ssl_nlp.data import Tokenizer
from ssl_nlp.encoders import Encoder
from ssl_nlp.encoders.start import begin_with_base
from ssl_nlp.errors import UserError
from ssl_nlp.runs import checkpoint as checkpoints
from ssl_nlp.runs.bases import Base
from ssl_nlp.training.arguments import constructor_arguments
from ssl_nlp.training.sums import Sums


class SavedModule(LightningModule):
    """A LightningModule whose checkpoints need nothing but themselves, and those of adapters the base that they name.

    The arguments of the constructor are recorded when an object is created, so that no subclass has to list them.
    """

    training_sums: Sums
    tokenizer: Any
    encoder: Any
    _arguments: dict[str, Any]
    _kind: type  # the class, which sharding changes

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        module = super().__new__(cls)
        vars(module).update(_kind=cls, _arguments=constructor_arguments(cls, args, kwargs))
        return module

    def connect(self, tokenizer: Tokenizer) -> None:
        """Create every parameter that depends on the vocabulary."""
        raise NotImplementedError

    def description(self, without: tuple[str, ...] = ()) -> dict[str, Any]:
        """Class and arguments as plain data, from which `from_description` creates the model with new weights.

        Args:
            without: arguments to leave out.
        """
        given = {name: value for name, value in self._arguments.items() if name not in without}
        if "encoder" in given:
            given["encoder"] = self._modules.get("encoder")  # which may have been set later
        return checkpoints.describe(self._kind, {name: _described(value) for name, value in given.items()})

    def settle(self, name: str, value: Any) -> None:
        """Record the value of an argument that was left open until the data were known, for checkpoints."""
        self._arguments[name] = value

    def take_settled(self, arguments: Mapping[str, Any]) -> None:
        """Take what a training settled when it began from the arguments in its checkpoint; by default nothing.

        A subclass overrides it if what it finds in the same data may change with the version of this package.
        """

    def check_saving(self) -> None:
        """Check before a training that checkpoints of this model can be loaded.

        Raises:
            UserError: an argument is neither plain data, nor an object that has a description.
        """
        for name, value in self.description()["init_args"].items():
            file = io.BytesIO()
            try:
                torch.save(value, file)
                file.seek(0)
                torch.load(file, weights_only=True)
            except (pickle.PickleError, AttributeError, TypeError) as error:
                raise UserError(
                    f"{type(self).__name__}: its argument {name!r} is {repr(value)[:40]}, which no checkpoint can keep: "
                    "take plain data, such as numbers, texts, lists and dictionaries of these"
                ) from error

    def finite(self) -> bool:
        """Whether all weights that this process holds are finite."""
        held = [p.to_local() if isinstance(p, DTensor) else p for p in self.parameters()]
        return bool(torch.stack([p.isfinite().all() for p in held]).all())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add class, arguments and tokenizer to the checkpoint, as plain data.

        The weights that an adapter has frozen are left out and named instead, unless they are random.
        """
        checkpoint["hyper_parameters"] = {}
        described = {
            "method": self.description(),
            "tokenizer": self.tokenizer.serialize(),
            "causal": self.encoder.causal,
        }
        checkpoint["ssl_nlp"] = described
        checkpoint["ssl_nlp"]["ancestry"] = [*self.encoder.ancestry]  # also none, which its class may not know
        if (left_out := self._base_names()) and self.device_mesh is None:  # FSDP loads what is in the file
            checkpoint["ssl_nlp"]["base"] = dict(self.encoder.base)
            weights = checkpoint["state_dict"].items()
            checkpoint["state_dict"] = {name: weight for name, weight in weights if name not in left_out}
        checkpoint["training_sums"] = self.training_sums.state_over_ranks()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the sums that were not logged yet; the first rank takes those of all ranks.

        Raises:
            UserError: the checkpoint has another tokenizer than the data, weights of other sizes, or the adapter of
                another encoder.
        """
        if Tokenizer(checkpoint["ssl_nlp"]["tokenizer"]).fingerprint() != self.tokenizer.fingerprint():
            raise UserError(
                "the checkpoint was trained with another tokenizer than the data's: begin with "
                "Method.load_from_checkpoint(path), whose tokenizer the data then use"
            )
        if isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.double()  # Lightning does this after it has loaded the weights, which would be rounded
        if "base" in checkpoint["ssl_nlp"]:
            self._check_base(checkpoint["ssl_nlp"]["base"])
            checkpoint["state_dict"] = self._with_base(checkpoint["state_dict"])
        saved, own = (_sizes(weights) for weights in (checkpoint.get("state_dict", {}), self.state_dict()))
        for name in [*own, *saved] if saved else []:
            sizes = [found.get(name, "none") for found in (saved, own)]
            if sizes[0] != sizes[1]:
                raise UserError(
                    f"the checkpoint does not fit the model: {name} is {sizes[0]} in the checkpoint and {sizes[1]} in the "
                    "model. Give the model the settings that it was trained with"
                )
        self._take_ancestry(checkpoint["ssl_nlp"])
        self.take_settled(checkpoint["ssl_nlp"]["method"]["init_args"])
        if self.global_rank == 0:
            self.training_sums.load_state(checkpoint.get("training_sums", {}))

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]  # nothing but the file is needed, so nothing else is asked for
        cls, checkpoint_path: str | os.PathLike[str], map_location: str | torch.device = "cpu", **overrides: Any
    ) -> Self:
        """Load the model of a checkpoint, in evaluation mode.

        The file may come from anybody: nothing in it can run code (`ssl_nlp.runs.checkpoint`).

        Raises:
            UserError: the file is missing, broken, or not a checkpoint of ours, or it needs a class that is not loaded.
        """
        saved = checkpoints.read(checkpoint_path, map_location)
        return cls.from_saved(saved, str(checkpoint_path), **overrides).to(map_location)

    @classmethod
    def from_saved(cls, saved: dict[str, Any], where: str, **overrides: Any) -> Self:
        """Create the model from the content of a checkpoint, in evaluation mode.

        Args:
            saved: what `checkpoint.read` gave.
            where: the file that it is from, for messages.
            overrides: arguments of the constructor that take the place of those saved.

        Raises:
            UserError: it is broken, or needs a class that is not loaded or does not belong there.
        """
        model = checkpoints.instantiate(saved["ssl_nlp"]["method"], cls, overrides, where)
        if hasattr(model, "encoder"):
            begin_with_base(model.encoder, saved, where)
        model._complete(saved["ssl_nlp"])
        try:
            model.load_state_dict(model._with_base(saved["state_dict"]))
        except (RuntimeError, KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            reason = str(error).strip().splitlines()[-1].strip()  # torch names the weights below a heading
            raise UserError(f"{where}: its weights do not fit its {type(model).__name__} ({reason})") from error
        return model.eval()

    @classmethod
    def from_description(cls, saved: dict[str, Any], where: str, **overrides: Any) -> Self:
        """Create a model with new weights from what `on_save_checkpoint` has put into a checkpoint.

        Args:
            saved: plain data of unknown origin.
            where: the file that they are from, for messages.
            overrides: arguments of the constructor that take the place of those saved.

        Raises:
            UserError: they are broken, or need a class that is not loaded or does not belong there.
        """
        model = checkpoints.instantiate(saved["method"], cls, overrides, where)
        model._complete(saved)
        return model

    def _complete(self, saved: dict[str, Any]) -> None:
        """Connect a new model to what `on_save_checkpoint` has put into a checkpoint."""
        if "causal" in saved and hasattr(self, "encoder"):
            self.encoder.made_causal = saved["causal"]
        self.connect(Tokenizer(saved["tokenizer"]))
        self._take_ancestry(saved)

    def _take_ancestry(self, saved: dict[str, Any]) -> None:
        """Take the ancestry that `on_save_checkpoint` has put into a checkpoint, if it has one."""
        if "ancestry" in saved:
            self.encoder.ancestry = tuple(saved["ancestry"])

    def _base_names(self) -> set[str]:
        """The names of all weights that are those of the encoder's base, copies of it included."""
        parts = [(prefix, part) for prefix, part in self.named_modules() if isinstance(part, Encoder) and part.base]
        return {f"{prefix}.{name}" for prefix, part in parts for name in part.base_names}

    def _with_base(self, weights: dict[str, Any]) -> dict[str, Any]:
        """The weights of a checkpoint together with those that it has left out, which this model already has."""
        own = self.state_dict()
        return {name: own[name] for name in self._base_names()} | weights

    def _check_base(self, base: Base) -> None:
        """Check that the adapter of a checkpoint belongs to the weights of the encoder.

        Raises:
            UserError: it belongs to others.
        """
        mine = self.encoder.base
        if mine is None or mine["digest"] != base["digest"]:
            now = "random weights" if mine is None else f"{mine['place']} (SHA-256 {mine['digest'][:16]}...)"
            raise UserError(
                f"the checkpoint holds the adapter of {base['place']} (SHA-256 {base['digest'][:16]}...), and the encoder "
                f"is {now}: put the old one back, or train another run"
            )


def _sizes(weights: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The sizes of the tensors in a state dict. What a module keeps beside these (`get_extra_state`) may be of any size."""
    return {name: tuple(weight.shape) for name, weight in weights.items() if isinstance(weight, Tensor)}


def _described(value: Any) -> Any:
    """An argument as plain data. The encoder that a model lends to its parts is described once, by the model."""
    if isinstance(value, Encoder):
        return checkpoints.describe(type(value), value.hparams())
    if isinstance(value, SavedModule):
        return value.description(without=("encoder",))
    if isinstance(value, list | tuple):
        return type(value)(map(_described, value))
    return value
