"""Any text encoder of `transformers`, by its name on the Hugging Face hub or by a local path."""

import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ssl_nlp.data.batch import TokenBatch
from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.base import Encoder, Frozen
from ssl_nlp.encoders.language_head import HeadLayers, head_layers
from ssl_nlp.errors import UserError
from ssl_nlp.runs.ancestry import published
from ssl_nlp.runs.bases import Base, beside, complaint, weights_digest

if TYPE_CHECKING:
    from transformers import DynamicCache, PretrainedConfig, PreTrainedModel


# The longest row of a model without a limit.
NO_LIMIT = 1_000_000
# Keys of a configuration that are not about the model's shape, but about the source of its code, kernels or parts.
FOREIGN = ("auto_map", "quantization_config", "attn_implementation", "experts_implementation", "backbone")


@dataclass
class PretrainedCache:
    """The past of a causal model: its own cache, and the segments (B, seen) of the positions in it."""

    states: "DynamicCache"
    segment_ids: Tensor

    @property
    def empty(self) -> bool:
        """Whether nothing has been seen."""
        return self.segment_ids.shape[1] == 0

    def select(self, rows: Tensor) -> None:
        """Keep these rows (N,) of the cache, in this order; a row may be kept several times."""
        self.states.batch_select_indices(rows)
        self.segment_ids = self.segment_ids[rows]


class PretrainedEncoder(Encoder):
    """A model of `transformers` (`AutoModel`) with its published weights, in float32 and without a pooler.

    Building it tests on six tokens whether it is causal and whether it keeps packed documents apart.

    Args:
        name: a model on the Hugging Face hub, or the path of a directory with `config.json` and weights. Its tokenizer
            is taken from the same place.
        dropout: the rate of every dropout layer except those of heads; None keeps the published rates.
        config: the model's configuration as plain data. With it no file is read and the weights are random, for a
            checkpoint to load.
        freeze: which part keeps its weights in training, and has no dropout: `all`, `embeddings`, or a number N for the
            embeddings and the first N layers. null: every part is trained.
        adapter: few parameters that are trained instead of the encoder's own.
        language_head: the head that language models begin with: `published`, that of the model, or a new one of its form
            where its files have none; or `own`, a new one in this package's form. null: `published`, but in checkpoints
            `own`, because older versions had no other.
        untrained: take architecture, size and tokenizer only, and begin with random weights: the baseline of what the
            published weights are worth.
    """

    needed_in_checkpoints: ClassVar[tuple[str, ...]] = ("config",)  # or `name` would decide what is read from where
    model: "PreTrainedModel"

    def __init__(
        self,
        name: str,
        dropout: float | None = None,
        config: dict[str, Any] | None = None,
        freeze: Frozen | int | None = None,
        adapter: Adapter | None = None,
        language_head: Literal["published", "own"] | None = None,
        untrained: bool = False,
    ) -> None:
        super().__init__(freeze, adapter)
        if language_head not in (None, "published", "own"):
            raise UserError(f"encoder: language_head must be published or own, not {language_head!r}")
        if dropout is not None and not 0 <= dropout < 1:
            raise UserError(f"encoder: dropout must be at least 0 and less than 1, not {dropout}")
        self.name = self.tokenizer_name = name
        self.dropout = dropout
        self._config = config
        self._language_head = language_head
        self.pretrained = not untrained
        self._source = None if untrained or config is not None else name  # of the weights; None: they are random
        self.ancestry = () if untrained else (published(name),)

    def _create(self) -> None:
        config = self._configure()
        model = self._load(config, self._source)
        embedding = model.get_input_embeddings()
        if not isinstance(embedding, nn.Embedding):
            raise UserError(f"the encoder {self.name} does not read tokens: use a text model")
        known = embedding.num_embeddings
        if self.vocab_size > known:
            raise UserError(
                f"the tokenizer has {self.vocab_size} tokens, but the encoder {self.name} knows {known}: "
                "use the tokenizer that belongs to it"
            )
        accepted = inspect.signature(model.forward).parameters
        if "attention_mask" not in accepted:
            raise UserError(f"the encoder {self.name} cannot tell padding from text: choose another one")
        self._takes_positions = "position_ids" in accepted
        # RoBERTa and its kin count positions from the padding's id on.
        places = [m for name, m in model.named_modules() if name.endswith("position_embeddings")]
        padding = next((m.padding_idx for m in places if isinstance(m, nn.Embedding)), None)
        self._first_position = 0 if padding is None else padding + 1
        limit = getattr(config, "max_position_embeddings", None) or 0
        self.max_length = limit - self._first_position if limit > 0 else NO_LIMIT
        self._try(model.eval())
        self._language_head = self._language_head or ("published" if self._config is None else "own")
        if not config.model_type.startswith("modernbert"):
            self.stock_head = "linear" if self.causal else "tanh"
        self.model = model.train(self.training)

    def _configure(self) -> "PretrainedConfig":
        from transformers import AutoConfig

        with self._loading():
            if self._config is not None:
                config = _config_of(_shape(self._config))
            else:
                config = AutoConfig.from_pretrained(self.name, trust_remote_code=False)
        if config.is_encoder_decoder:
            raise UserError(f"the encoder {self.name} is an encoder-decoder: use a model with one stack of layers")
        config.use_cache = False
        if self.dropout is not None:
            foreign = ("classif", "summary", "layerdrop")
            rates = [k for k in config.to_dict() if "drop" in k and not any(word in k for word in foreign)]
            if not rates:
                raise UserError(f"the encoder {self.name} has no dropout to set: leave dropout out")
            for rate in rates:
                setattr(config, rate, self.dropout)
        return config

    def _load(self, config: "PretrainedConfig", place: str | None, **options: Any) -> "PreTrainedModel":
        """A model with the weights at a place, loaded by `from_pretrained` with these options, or with random ones."""
        from transformers import MODEL_MAPPING, AutoModel

        kind = MODEL_MAPPING.get(type(config), None)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not all("input_ids" in inspect.signature(getattr(kind, "forward", id)).parameters for kind in kinds):
            raise UserError(f"the encoder {self.name} does not read tokens: use a text model")
        options |= {"dtype": torch.float32, "trust_remote_code": False}
        if inspect.isclass(kind) and "add_pooling_layer" in inspect.signature(kind).parameters:
            options["add_pooling_layer"] = False  # it would get no gradient, which distributed training refuses
        with self._loading():
            if place is None:
                return AutoModel.from_config(config, **options)
            model, info = AutoModel.from_pretrained(place, config=config, output_loading_info=True, **options)
        if missing := sorted(info["missing_keys"]):
            raise UserError(f"the encoder {self.name} is incomplete: its files lack {missing[0]} and others")
        return model

    def published_base(self) -> Base | None:
        if self._source is None:
            return None
        place = str(Path(self.name).absolute()) if Path(self.name).is_dir() else self.name
        return {"place": place, "run": None, "digest": weights_digest(self.state_dict())}

    def load_published(self, base: Base, where: str) -> None:
        here, other = str(beside(where)), False
        for place in (here, base["place"]):
            try:
                model = self._load(self.model.config, place, local_files_only=True)  # a checkpoint causes no download
            except UserError:
                continue
            self.model.load_state_dict(model.state_dict())
            if weights_digest(self.state_dict()) == base["digest"]:
                return
            other = True
        raise UserError(complaint(base, where, here, other))

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """Report a failure in one line, and silence warnings: that a model has unused heads does not matter."""
        from transformers.utils import logging

        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            yield
        except (OSError, ValueError, SafetensorError) as error:
            reason = str(error).strip().split("\n")[0].rstrip(". ")
            raise UserError(
                f"cannot load the encoder {self.name!r} ({reason}): give the name of a text model on the Hugging Face "
                "hub, or without a network the path of a directory that holds one"
            ) from error
        finally:
            logging.set_verbosity(verbosity)

    @torch.no_grad()
    def _try(self, model: "PreTrainedModel") -> None:
        """Find the width, whether the future is seen, and whether packed documents stay apart."""
        ids = [i for i in range(8) if i != model.config.pad_token_id][:6]
        rows = torch.tensor(ids, device=model.device).view(2, 3)
        ones = torch.ones_like(rows)
        states = self._run(model, TokenBatch(rows, ones, packed=False, padded=False))
        self.dim = states.shape[-1]

        other_end = torch.cat((rows[:, :2], rows[:, :1]), dim=1)
        changed = self._run(model, TokenBatch(other_end, ones, packed=False, padded=False))
        causal = torch.equal(states[:, :2], changed[:, :2])
        if not self._takes_direction:
            self.causal = causal
        if causal != self.causal:
            needed, found = ("causal", "bidirectional") if self.causal else ("bidirectional", "causal")
            raise UserError(f"this method needs a {needed} encoder, and {self.name} is {found}: choose another one")

        self._packs = False
        kinds = set(getattr(model.config, "layer_types", None) or [])
        masked = model.config._attn_implementation == "sdpa" and kinds <= {"full_attention", "sliding_attention"}
        if masked and self._takes_positions:
            segment_ids = torch.tensor([[1, 1, 1, 2, 2, 2]], device=model.device)
            try:
                packed = self._run(model, TokenBatch(rows.view(1, 6), segment_ids))
            except (TypeError, ValueError, RuntimeError):
                return
            error = (packed.view_as(states) - states).abs().max()
            self._packs = bool(error < 1e-3 * states.abs().max())

    @property
    def adapted(self) -> nn.Module:
        return self.model

    @property
    def embedding(self) -> nn.Embedding:
        embedding = self.model.get_input_embeddings()
        assert isinstance(embedding, nn.Embedding)  # `build` has checked it
        return embedding

    @property
    def part_embedding(self) -> nn.Embedding | None:
        tables = [m for name, m in self.model.named_modules() if name.endswith("token_type_embeddings")]
        return next((table for table in tables if isinstance(table, nn.Embedding) and table.num_embeddings > 1), None)

    def language_head(self) -> HeadLayers | None:
        if self._language_head == "own":
            return None
        with self._loading():
            layers, found = head_layers(self.model.config, self.causal, self._source)
        self.lacks_language_head = not found
        return layers

    def hparams(self) -> dict[str, Any]:
        config = self._config
        if self._built:
            config = json.loads(self.model.config.to_json_string(use_diff=False))
        given = {"freeze": self.freeze, "adapter": self.adapter, "language_head": self._language_head}
        return {"name": self.name, "dropout": self.dropout, "config": config, **given}

    def forward(self, batch: TokenBatch, cache: PretrainedCache | None = None, added: Tensor | None = None) -> Tensor:
        if batch.causal not in (None, self.causal):
            kinds = ("causal", "bidirectional") if self.causal else ("bidirectional", "causal")
            raise UserError(
                f"the encoder {self.name} is {kinds[0]} and cannot be {kinds[1]}: use a Transformer instead"
            )
        if cache is not None:
            return self._continue(batch, cache, added)
        self._check_length(batch.input_ids.shape[1])
        if batch.packed and not self._packs:
            raise UserError(
                f"the encoder {self.name} cannot keep documents in one row apart: set data.unit to sentence"
            )
        return self._run(self.model, batch, added)

    def _run(self, model: "PreTrainedModel", batch: TokenBatch, added: Tensor | None = None) -> Tensor:
        options = self._inputs(batch, added)
        if batch.packed:
            options["attention_mask"] = self._packed_masks(model.config, batch)
        elif batch.padded:
            options["attention_mask"] = batch.is_text.long()
        if batch.packed or (added is not None and self._takes_positions):
            options["position_ids"] = batch.positions() + self._first_position
        return model(**options).last_hidden_state

    def _inputs(self, batch: TokenBatch, added: Tensor | None) -> dict[str, Any]:
        if added is None:
            return {"input_ids": batch.input_ids}
        return {"inputs_embeds": self.embedding(batch.input_ids) + added}

    def _packed_masks(self, config: "PretrainedConfig", batch: TokenBatch) -> Tensor | dict[str, Tensor]:
        """(B, 1, T, T) bool, True where attention may look; one for each kind of layer if there are several."""
        index = torch.arange(batch.input_ids.shape[1], device=batch.input_ids.device)
        distance = index[:, None] - index
        full = batch.segment_ids[:, None, :, None] == batch.segment_ids[:, None, None, :]
        if self.causal:
            full = full & (distance >= 0)
        window, kinds = getattr(config, "sliding_window", None), set(getattr(config, "layer_types", None) or [])
        if window is None or (kinds and "sliding_attention" not in kinds):
            return full
        local = full & (distance < window if self.causal else distance.abs() <= window)
        return {"full_attention": full, "sliding_attention": local} if kinds else local

    def new_cache(self, rows: int, length: int) -> PretrainedCache:
        from transformers import DynamicCache

        if not self.causal:
            raise UserError(f"{self.name} is bidirectional and cannot continue a text: choose a causal encoder")
        self._check_length(length + self.prompt_length)
        seen = torch.zeros(rows, 0, dtype=torch.long, device=self.model.device)
        return PretrainedCache(DynamicCache(config=self.model.config), seen)

    def _continue(self, batch: TokenBatch, cache: PretrainedCache, added: Tensor | None) -> Tensor:
        self._check_continued(batch)
        cache.segment_ids = torch.cat((cache.segment_ids, batch.segment_ids), dim=1)
        self._check_length(cache.segment_ids.shape[1])
        if batch.packed and int(cache.segment_ids.max()) > 1:
            raise ValueError("a key-value cache continues one document in each row")
        row = TokenBatch(cache.segment_ids, cache.segment_ids)
        options = self._inputs(batch, added)
        options |= {"attention_mask": row.is_text.long(), "past_key_values": cache.states}
        if self._takes_positions:
            options["position_ids"] = row.positions()[:, -batch.input_ids.shape[1] :] + self._first_position
        return self.model(use_cache=True, **options).last_hidden_state


def _config_of(shape: dict[str, Any]) -> "PretrainedConfig":
    """The configuration that plain data describe.

    Raises:
        ValueError: they do not describe a configuration.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoConfig

    try:
        return AutoConfig.for_model(**shape)
    except (AttributeError, KeyError, TypeError, StrictDataclassError) as error:
        raise ValueError(f"its configuration is broken: {error}") from error


def _shape(config: Any) -> Any:
    """A configuration, or part of one, without the keys that make `transformers` fetch code, kernels or models."""
    if isinstance(config, list):
        return [_shape(part) for part in config]
    if not isinstance(config, dict):
        return config
    return {key: _shape(value) for key, value in config.items() if not any(word in str(key) for word in FOREIGN)}
