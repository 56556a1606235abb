"""Adapters: few trained parameters on an encoder whose own weights are frozen (the package `peft`)."""

from ssl_nlp.encoders.adapters.base import Adapter
from ssl_nlp.encoders.adapters.ia3 import IA3
from ssl_nlp.encoders.adapters.lora import AdaLoRA, LoRA
from ssl_nlp.encoders.adapters.merging import merged, without_adapter
from ssl_nlp.encoders.adapters.peft_format import save_peft
from ssl_nlp.encoders.adapters.prompt import PromptTuning

__all__ = ["IA3", "AdaLoRA", "Adapter", "LoRA", "PromptTuning", "merged", "save_peft", "without_adapter"]
