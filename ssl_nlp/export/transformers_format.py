"""`--format transformers`: a folder for `AutoModel`, `AutoTokenizer` and the class of the run's head."""

from pathlib import Path

from ssl_nlp.export.contents import Contents
from ssl_nlp.export.convert import stock_model
from ssl_nlp.export.tokenizer import save_tokenizer
from ssl_nlp.modules.pooling import Pooling
from ssl_nlp.training.texts import TextModule

TASKS = {  # of the hub, by the class that loads the folder, and how the class is used
    "AutoModel": "feature-extraction",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
}
POOLED = {
    "mean": 'mask = inputs["attention_mask"].unsqueeze(-1)\nembeddings = (states * mask).sum(1) / mask.sum(1)',
    "max": 'mask = inputs["attention_mask"].unsqueeze(-1).bool()\nembeddings = states.masked_fill(~mask, -1e9).amax(1)',
    "first": "embeddings = states[:, 0]",
    "last": 'ends = inputs["attention_mask"].sum(1) - 1\nembeddings = states[range(len(states)), ends]',
}
PIPELINE = 'from transformers import pipeline\n\nask = pipeline("{task}", "{path}")\nprint(ask(INPUT))'
USES = {
    "AutoModelForMaskedLM": (
        "from transformers import pipeline\n\n"
        'fill = pipeline("fill-mask", "{path}")\n'
        'print(fill(f"A {fill.tokenizer.mask_token} text."))'
    ),
    "AutoModelForSequenceClassification": PIPELINE.replace("{task}", "text-classification"),
    "AutoModelForTokenClassification": PIPELINE.replace("{task}", "token-classification"),
    "AutoModelForQuestionAnswering": (
        "from transformers import AutoModelForQuestionAnswering, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("{path}")\n'
        'model = AutoModelForQuestionAnswering.from_pretrained("{path}")\n'
        'output = model(**tokenizer("A question?", "A text.", return_tensors="pt"))\n'
        "print(output.start_logits, output.end_logits)"
    ),
    "AutoModelForCausalLM": (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("{path}")\n'
        'model = AutoModelForCausalLM.from_pretrained("{path}")\n'
        'inputs = tokenizer("A text", return_tensors="pt")\n'
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=20)[0], skip_special_tokens=True))"
    ),
}


def write(module: TextModule, folder: Path, pooling: Pooling) -> Contents:
    """Write weights (safetensors), configuration and tokenizer.

    Args:
        module: a method or task.
        folder: to write into.
        pooling: of the states, for the example of the card.

    Raises:
        UserError: `transformers` has no class for the encoder.
    """
    stock = stock_model(module)
    kind = stock.loads_as[-1]
    stock.model.save_pretrained(folder)
    # A mask that a person writes into a text has to be read as one; elsewhere, special tokens in a text are text.
    reads_special = kind == "AutoModelForMaskedLM"
    save_tokenizer(module.tokenizer, folder, module.encoder.max_length, reads_special, stock.parts)
    embeds = (
        "from transformers import AutoModel, AutoTokenizer\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("{path}")\n'
        'model = AutoModel.from_pretrained("{path}")\n'
        'inputs = tokenizer(["A text.", "Another one."], padding=True, truncation=True, return_tensors="pt")\n'
        f"states = model(**inputs).last_hidden_state\n{POOLED[pooling]}"
    )
    pair = getattr(module, "pairs", False)
    use = USES.get(kind, "").replace(
        "INPUT", '{"text": "A text.", "text_pair": "Another one."}' if pair else '"A text."'
    )
    code = f"{use}\n```\n\nIts embeddings of texts:\n\n```python\n{embeds}" if use else embeds
    loads = " or ".join(f"`{name}`" for name in stock.loads_as)
    summary = f"A transformers `{type(stock.model).__name__}`; load it with {loads}."
    return Contents("transformers", TASKS[kind], summary, code, stock.left_out)
