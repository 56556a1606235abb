"""`--format peft`: an adapter as the package `peft` writes it, and the model that it belongs on."""

from pathlib import Path

from ssl_nlp.encoders.adapters import save_peft, without_adapter
from ssl_nlp.errors import UserError
from ssl_nlp.export.contents import Contents
from ssl_nlp.export.convert import set_special_tokens
from ssl_nlp.export.stock import base_model
from ssl_nlp.export.tokenizer import save_tokenizer
from ssl_nlp.tasks import Task
from ssl_nlp.training.texts import TextModule

ADAPTER = "adapter"
CODE = """\
from peft import PeftModel
from transformers import AutoModel, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{path}")
model = PeftModel.from_pretrained(AutoModel.from_pretrained("{path}"), "{path}", subfolder="adapter")
inputs = tokenizer(["A text.", "Another one."], padding=True, truncation=True, return_tensors="pt")
states = model(**inputs).last_hidden_state"""


def write(module: TextModule, folder: Path) -> Contents:
    """Write the encoder without its adapter, the tokenizer and, in `adapter/`, the adapter.

    Raises:
        UserError: the encoder has no adapter, or one that the format cannot hold.
    """
    encoder = module.encoder
    if encoder.adapter is None:
        raise UserError(f"this {type(module).__name__} was trained without an adapter: use --format transformers")
    save_peft(encoder, folder / ADAPTER)
    model = base_model(without_adapter(encoder))
    set_special_tokens(model, module)
    model.save_pretrained(folder)
    save_tokenizer(module.tokenizer, folder, encoder.max_length)
    kind = type(encoder.adapter).__name__
    summary = f"A `{type(model).__name__}` of transformers and, in {ADAPTER}/, a {kind} for it, for `peft.PeftModel`."
    head = "It has no head: --format transformers merges the adapter and keeps the head where a stock class has one."
    notes = [head] if isinstance(module, Task) or hasattr(module, "head") else []
    return Contents("peft", "feature-extraction", summary, CODE, notes)
