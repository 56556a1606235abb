"""IA3: learned scales of keys, values and hidden activations."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from ssl_nlp.encoders.adapters.base import LayerAdapter, linear_maps
from ssl_nlp.errors import UserError, refuse

if TYPE_CHECKING:
    from peft import IA3Config

    from ssl_nlp.encoders.base import Encoder

# Names in `Transformer`: linear maps whose output is scaled, and those whose input is.
TARGETS, FEEDFORWARD = ["k_proj", "v_proj", "mlp.Wo"], ["mlp.Wo"]


@dataclass(frozen=True)
class IA3(LayerAdapter):
    """Multiply keys, values and the hidden activations of feed-forward layers by learned vectors (arXiv:2205.05638).

    Args:
        targets: ends of the names of the linear maps to adapt. None: keys, values and the second map of each
            feed-forward layer, by the names that peft knows for the kind of model.
        feedforward: those of the targets whose input is scaled, instead of their output.
        norms_and_biases: whether norms and biases of the base train too. peft's own format cannot hold them.
    """

    targets: list[str] | None = None
    feedforward: list[str] | None = None
    norms_and_biases: bool = False

    def __post_init__(self) -> None:
        extra = sorted(set(self.feedforward or []) - set(self.targets or []))
        refuse({f"feedforward {', '.join(extra)} must be among the targets": bool(extra)}, "encoder.adapter")

    def config(self, encoder: "Encoder") -> "IA3Config":
        from peft import IA3Config

        targets, feedforward = self._names(encoder)
        maps = linear_maps(encoder.adapted, targets)
        transposed = not any(isinstance(part, nn.Linear) for part in maps.values())
        return IA3Config(target_modules=targets, feedforward_modules=feedforward, fan_in_fan_out=transposed)

    def _names(self, encoder: "Encoder") -> tuple[list[str], list[str]]:
        from peft.utils import constants

        if self.targets is not None:
            return self.targets, self.feedforward or []
        if encoder.adapted is encoder:
            return TARGETS, FEEDFORWARD
        kind = str(getattr(getattr(encoder.adapted, "config", None), "model_type", None))
        targets = constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(kind)
        if targets is None:
            known = ", ".join(sorted({name.rpartition(".")[2] for name in linear_maps(encoder.adapted, None)}))
            raise UserError(
                f"IA3 does not know the keys, values and feed-forward layers of a {kind} model: give targets and "
                f"feedforward, among {known}"
            )
        return targets, constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[kind]
