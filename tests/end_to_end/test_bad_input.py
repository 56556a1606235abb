"""Bad input to all commands ends with exit status 2 and one line that names the culprit and the fix.

The flags of Lightning's Trainer have a sweep of their own, and so have names that come from elsewhere.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ssl_nlp.data import TokenizerSettings
from ssl_nlp.data.tokenizer import get_tokenizer
from ssl_nlp.encoders import Transformer
from ssl_nlp.methods import VAE, CausalLM, MaskedLM
from tests.corpus import ListCorpus, random_texts
from tests.end_to_end.cli import CONFIGS, run, save_untrained, small, tiny_encoder, write_texts

pytestmark = pytest.mark.slow

# ------------------------------------------------------------------------------------------------------ arguments of fit

# By method: the option, and values that it must refuse.
REFUSED: dict[str, dict[str, list[str]]] = {
    "masked_lm": {
        "--model.masking_rate": ["-0.1", "0", "1.5", ".nan", ".inf", "x", "null", "[0.1]", ""],
        "--model.masking_unit": ["sentence", "", "null", "3"],
        "--model.sentence_pairs": ["previous", "true"],
        "--model.compile": ["2", "maybe", "null"],
        "--model.encoder.dim": ["-16", "0", "3", "1.5", ".nan", "x"],
        "--model.encoder.layers": ["-1", "0", "1.5", "x"],
        "--model.encoder.heads": ["-2", "0", "3", "1.5"],
        "--model.encoder.hidden": ["-1", "0", "x"],
        "--model.encoder.max_length": ["-1", "0", "16", "1.5", "null"],
        "--model.encoder.window": ["-2", "0", "x"],
        "--model.encoder.global_every": ["-1", "0", "x"],
        "--model.encoder.dropout": ["-0.1", "1", "1.5", ".nan", ".inf", "x"],
        "--model.encoder.rope_theta": ["-1", "0", ".nan", ".inf", "x"],
        "--model.encoder.size": ["huge", "3"],
        "--model.optimization.optimizer": ["sgd", "", "null"],
        "--model.optimization.learning_rate": ["-1", "0", ".nan", ".inf", "x", "null"],
        "--model.optimization.muon_learning_rate": ["-1", ".nan", ".inf", "x"],
        "--model.optimization.weight_decay": ["-1", ".nan", ".inf", "x"],
        "--model.optimization.betas": ["[0.9]", "[0.9, 1]", "[-0.1, 0.9]", "[.nan, 0.9]", "x"],
        "--model.optimization.eps": ["-1", "0", ".nan", ".inf"],
        "--model.optimization.warmup": ["-1", "1.5", ".nan", ".inf", "x"],
        "--model.optimization.schedule": ["step", "null"],
        "--model.optimization.decay": ["-0.1", "1.5", ".nan", "x"],
        "--model.optimization.final": ["-0.1", "1.5", ".nan", "x"],
        "--data.length": ["-1", "0", "1", "1.5", ".nan", "1025", "x", "null"],
        "--data.batch_size": ["-1", "0", "1.5", "x", "null"],
        "--data.workers": ["-1", "1.5", "x"],
        "--data.unit": ["chapter", "null", "0"],
        "--data.seed": ["-1", "1.5", "x"],
        "--data.tokenizer.kind": ["words", "null"],
        "--data.tokenizer.vocab_size": ["-1", "0", "10", "1.5", "x"],
        "--data.tokenizer.documents": ["-1", "0", "1.5"],
        "--data.tokenizer.lowercase": ["maybe", "3"],
        "--data.tokenizer.name": ["nowhere/at/all", "texts.txt", "folder"],
        "--data.corpus.valid": ["-0.1", "0", "1", "1.5", ".nan"],
        "--data.corpus.test": ["-0.1", "0", "1", "0.96", ".nan"],
        "--data.corpus.unit": ["chapter", "null"],
        "--data.corpus.pair": ["b"],
        "--data.corpus.format": ["xml"],
        "--checkpoint_every": ["-1", "0", "1.5", "x", "null"],
        "--seed_everything": ["-1", "99999999999999", "1.5", "x"],
        "--ckpt_path": ["nowhere.ckpt", "folder", "binary.txt", "texts.txt", "empty.txt", "best"],
        "--wandb.mode": ["sometimes", "null"],
        "--wandb.tags": ["3"],
        "--config": [
            "nowhere.yaml",
            "folder",
            "binary.txt",
            "utf16.txt",
            "list.yaml",
            "broken.yaml",
            "unknown.yaml",
            "text.yaml",
        ],
    },
    "bidirectional_lm": {
        "--model.encoder.kind": ["elman", "3", "null"],
        "--model.encoder.bidirectional": ["false", "x"],
        "--model.encoder.separate": ["false", "null"],
        "--model.encoder.layers": ["-1", "0", "1.5"],
        "--model.encoder.dim": ["-1", "0", "9"],
        "--model.encoder.embedding_dim": ["-1", "0"],
        "--model.encoder.dropout": ["-0.1", "1", ".nan"],
        "--model.encoder.tied": ["false"],
        "--model.encoder.max_length": ["-1", "0", "16"],
    },
    "causal_masked_lm": {
        "--model.causal_share": ["1.5", ".nan"],
        "--model.masking_rate.end": ["0"],
        "--model.masking_rate.steps": ["0"],
    },
    "masked_diffusion": {"--model.draws": ["-1", "1", "1.5", "null"]},
    "replaced_token": {
        "--model.masking_rate": ["-0.1", "0", "1.5", ".nan"],
        "--model.generator_size": ["-1", "0", ".nan", ".inf", "1.5"],
        "--model.detection_weight": ["-1", ".nan", ".inf"],
    },
    "simclr": {
        "--model.temperature": ["-1", "0", ".nan", ".inf", "x"],
        "--model.pooling": ["max", "null"],
        "--model.chunk": ["-1", "0", "1.5"],
        "--model.projection.depth": ["-1", "1.5"],
        "--model.projection.width": ["-1", "0"],
        "--data.batch_size": ["1"],
        "--data.unit": ["block"],
    },
    "moco": {
        "--model.temperature": ["-1", "0", ".nan"],
        "--model.momentum": ["-0.1", "1.5", ".nan"],
        "--model.queue": ["-1", "0", "1.5", "3"],
    },
    "autoencoder": {
        "--model.latent_dim": ["-1", "0", "1.5"],
        "--model.decoder_layers": ["-1", "0", "1.5"],
    },
    "vae": {
        "--model.latent_dim": ["-1", "0", "null"],
        "--model.beta": ["-1", ".nan", ".inf"],
        "--model.annealing": ["slow", "null"],
        "--model.annealing_steps": ["-1", "1.5", ".nan"],
        "--model.annealing_cycles": ["-1", "0"],
        "--model.free_bits": ["-1", ".nan", ".inf"],
        "--model.free_bits_per": ["token"],
        "--model.word_dropout": ["-0.1", "1.5", ".nan"],
        "--model.importance_samples": ["-1", "0"],
        "--model.decoder_layers": ["-1", "0"],
    },
    "arae": {
        "--model.latent_dim": ["-1", "0", "null"],
        "--model.noise": ["-1", ".nan", ".inf"],
        "--model.noise_left": ["-0.1", "0", "1.5", ".nan"],
        "--model.distance_weight": ["-1", ".nan", ".inf"],
        "--model.autoencoder_every": ["-1", "0", "1.5"],
        "--model.generator_every": ["-1", "0"],
        "--model.noise_dim": ["0"],
        "--model.width": ["0"],
        "--model.critic_learning_rate": ["-1", "0", ".nan", ".inf"],
        "--model.generator_learning_rate": ["0", "x"],
    },
    "skip_gram": {
        "--model.window": ["-1", "0", "1.5"],
        "--model.negatives": ["-1", "0", "1.5"],
        "--model.subsample": ["-1", "2", ".nan"],
        "--model.output": ["softmax", "null"],
    },
    "glove": {
        "--model.x_max": ["-1", "0", ".nan", ".inf"],
        "--model.alpha": ["-1", ".nan", ".inf"],
        "--data.unit.window": ["-1", "0", "1.5"],
    },
    "multi_objective": {
        "--model.weights": ["[1.0]", "[-1, 1, 1]", "[.nan, 1, 1]", "x"],
        "--model.gradient_cosine_every": ["-1", "0"],
        "--model.objectives": ["[]", "x", "null"],
    },
}
VIEWS = {
    "Delete": ("rate", ["-0.1", "1.5", ".nan", "x"]),
    "Crop": ("share", ["-0.1", "1.5", ".nan"]),
    "ShuffleSpans": ("length", ["-1", "0", "1.5"]),
    "Replace": ("rate", ["-0.1", "1.5", ".nan"]),
    "Mask": ("rate", ["-0.1", "1.5", ".nan"]),
    "Repeat": ("rate", ["-0.1", "1.5", ".nan"]),
}
# Names and classes that are not there, and arguments that do not go together: what is typed, and what must be named.
FIT: list[tuple[str, list[str], str]] = [
    ("masked_lm", ["--learning_rate=1"], "--model.optimization.learning_rate"),
    ("masked_lm", ["--learning_rate", "1"], "--model.optimization.learning_rate"),
    ("masked_lm", ["--model.learning_rate=1"], "--model.optimization.learning_rate"),
    ("masked_lm", ["--model.optimisation.learning_rate=1"], "--model.optimization.learning_rate"),
    ("masked_lm", ["--model.optimization.lerning_rate=1"], "--model.optimization.learning_rate"),
    ("masked_lm", ["--model.masking_rat=1"], "--model.masking_rate"),
    ("masked_lm", ["--model.encoder.dims=16"], "--model.encoder.dim"),
    ("masked_lm", ["--data.batch=3"], "--data.batch_size"),
    ("masked_lm", ["--data.corpus.texts=a"], "--data.corpus.text"),
    ("masked_lm", ["--data.tokenizer.vocabulary_size=300"], "--data.tokenizer.vocab_size"),
    ("masked_lm", ["--batch_size=3"], "--data.batch_size"),
    ("masked_lm", ["--wandb.projekt=a"], "--wandb.project"),
    ("masked_lm", ["--checkpoint_evry=3"], "--checkpoint_every"),
    ("masked_lm", ["--trainer.max_step=3"], "did you mean --trainer.max_steps?"),  # no abbreviations
    (
        "masked_lm",
        ["--max_steps=3", "--trainer.max_steps=3"],
        "there is no option --max_steps: did you mean --trainer.max_st",
    ),
    (
        "masked_lm",
        ["--data.corpus=InstalledDocs", "--data.corpus.unit=line"],
        "unit: the class that you chose has",
    ),
    ("masked_lm", ["--model.views=[]"], "there is no option --model.views: ssl-nlp fit"),
    ("masked_lm", ["--data.corpus.unit=word"], "data.corpus.unit must be one of 'file', 'line', 'paragraph'"),
    ("masked_lm", ["--data.corpus=TextFile"], "data.corpus: there is no class TextFile"),
    ("masked_lm", ["--seed_everything=x"], "must be of type bool or of type int"),
    ("masked_lm", ["--quite.something.else=3"], "--quite.something.else"),
    ("masked_lm", ["--model.temperature=1"], "temperature"),  # of another method
    ("masked_lm", ["--model.nothing=1"], "ssl-nlp fit --model MaskedLM --help model"),
    ("masked_lm", ["stray"], "stray"),
    ("masked_lm", ["--model=MaskedLMM"], "MaskedLMM"),
    ("masked_lm", ["--model=ssl_nlp.methods.Unheard"], "Unheard"),
    ("masked_lm", ["--model=Transformer"], "Transformer"),
    ("masked_lm", ["--model=TextFiles"], "TextFiles"),
    ("masked_lm", ["--model.encoder=Transformr"], "Transformr"),
    ("masked_lm", ["--model.encoder=TextFiles"], "TextFiles"),
    ("masked_lm", ["--model.encoder=MaskedLM"], "MaskedLM"),
    ("masked_lm", ["--model.encoder=3"], "3"),
    ("masked_lm", ["--model.encoder=null"], "encoder"),
    ("masked_lm", ["--data.corpus=MaskedLM"], "MaskedLM"),
    ("masked_lm", ["--data.corpus=Unheard"], "Unheard"),
    ("masked_lm", ["--data.corpus=null"], "corpus"),
    ("masked_lm", ["--data=TextFiles"], "TextFiles"),
    ("masked_lm", ["--config"], "--config"),
    ("masked_lm", ["--run"], "--run"),
    ("masked_lm", ["--data.unit=pair"], "pair"),
    ("masked_lm", ["--model.encoder=PretrainedEncoder", "--model.encoder.name=nowhere/at/all"], "nowhere/at/all"),
    ("masked_lm", ["--model.encoder=PretrainedEncoder", "--model.encoder.name=folder"], "folder"),
    ("masked_lm", ["--model.sentence_pairs=next"], "unit"),
    ("masked_lm", ["--data.corpus.valid=0.6", "--data.corpus.test=0.6"], "leave nothing to train on"),
    ("masked_lm", ["--data.corpus.valid=texts.txt", "--data.corpus.test=null"], "train split"),
    ("masked_lm", ["--data.corpus.train=a.csv"], "line 3 has 3 fields instead of 2"),
    ("masked_lm", ["--data.corpus.train=a.csv", "--data.corpus.text=body"], "no field `body`"),
    ("masked_lm", ["--data.corpus.train=a.csv", "--data.corpus.text=7"], "no field"),
    ("masked_lm", ["--data.corpus.train=a.csv", "--data.corpus.text=-1"], "no field"),
    *(
        ("masked_lm", [f"--data.corpus.{split}={file}"], file)
        for split in ("train", "valid", "test")
        for file in ("nowhere.txt", "no*.txt", "folder", "empty.txt", "binary.txt", "utf16.txt")
    ),
    ("masked_lm", ["--data.corpus.train=one.txt"], "one.txt"),
    ("masked_lm", ["--data.corpus.train=[]"], "give at least one path"),
    ("masked_lm", ["--data.corpus.train="], "no file matches ''"),
    ("masked_lm", ["--data.corpus.valid=[]"], "give at least one path"),
    ("masked_lm", ["--data.corpus.format=jsonl"], "texts.txt, line 1 is not JSON"),
    ("masked_lm", ["--data.corpus.format=parquet"], "texts.txt is not a complete parquet file"),
    ("masked_lm", ["--data.corpus.train=a.xml"], "a.xml: unknown ending"),
    ("masked_lm", ["--data.corpus.train=a.parquet"], "a.parquet"),
    ("masked_lm", ["--data.corpus.train=a.txt.gz"], "a.txt.gz"),
    ("masked_lm", ["--data.corpus.train=a.jsonl"], "a.jsonl, line 2"),
    ("causal_lm", ["--model.masking_rate=0.1"], "masking_rate"),
    ("causal_lm", ["--data.unit=chapter"], "chapter"),
    ("vae", ["--data.unit=block"], "unit"),
    ("simclr", ["--model.views=Delete"], "views"),
    ("simclr", ["--model.views+=Unheard"], "Unheard"),
    ("simclr", ["--model.views+=MaskedLM"], "MaskedLM"),
    ("simclr", ["--model.views+=Delete"], "rate"),
]


def fit_cases() -> Iterator[tuple[str, list[str], str]]:
    for method, options in REFUSED.items():
        for option, values in options.items():
            for value in values:
                culprit = value if option in ("--config", "--ckpt_path") else option.rsplit(".", 1)[-1].lstrip("-")
                yield method, [f"{option}={value}"], culprit
    for view, (setting, values) in VIEWS.items():
        for value in values:
            given = f"[{{class_path: ssl_nlp.objectives.views.{view}, init_args: {{{setting}: {value}}}}}]"
            yield "simclr", [f"--model.views={given}"], setting
    yield from FIT


# ------------------------------------------------------------------------------------------------------- other commands

MASKED, CAUSAL, DRAWN = "masked.ckpt", "causal.ckpt", "vae.ckpt"
OTHER: list[tuple[list[str], str]] = [
    (["fti"], "'fti'"),
    (["--fit"], "'--fit'"),
    (["embed"], "embed needs --checkpoint, --output"),
    (["embed", "--checkpoint", MASKED], "embed needs --output"),
    (["embed", "--checkpoint", MASKED, "--output=a.npy", "--inptu=a"], "did you mean --input? ssl-nlp embed --help"),
    (["embed", "--checkpoint", MASKED, "--output=a.npy", "stray"], "unexpected argument stray"),
    (["predict", "--run=done", "--outp=a.npy"], "did you mean --output?"),
    (["evaluate"], "evaluate needs MODEL"),
    (["evaluate", MASKED, "--suit=docs"], "did you mean --suite? ssl-nlp evaluate --help"),  # no abbreviations
    (["compare", "somewhere", "--outp=a"], "did you mean --output? ssl-nlp compare --help"),
    (["fit"], "fit needs a configuration"),
    (["fill-mask", "--checkpoint", CAUSAL, "--text=a"], "holds a CausalLM, which cannot fill masks"),
    *(
        (["embed", "--checkpoint", bad, "--input", "texts.txt", "--output", "a.npy"], bad)
        for bad in ("nowhere.ckpt", "folder", "binary.txt", "texts.txt", "empty.txt", "other.ckpt", "half.ckpt")
    ),
    *(
        (["embed", "--checkpoint", MASKED, "--input", bad, "--output", "a.npy"], bad)
        for bad in ("nowhere.txt", "folder", "empty.txt", "binary.txt", "utf16.txt", "blank.txt")
    ),
    (["embed", "--checkpoint", MASKED, "--input", "a\0b", "--output", "a.npy"], "embedded null byte"),
    *(
        (["embed", "--checkpoint", MASKED, "--input", "texts.txt", "--output", bad], bad)
        for bad in ("there.npy", "a.txt", "folder", "texts.txt/a.npy", "/proc/a/b.npy", ".npy", "")
    ),
    *(
        (
            ["embed", "--checkpoint", MASKED, "--input", "texts.txt", "--output", "a.npy", f"--batch_size={bad}"],
            "batch_size",
        )
        for bad in ("0", "-1", "1.5", "x", "nan", "null")
    ),
    (["embed", "--checkpoint", MASKED, "--output", "a.npy", "--inputs", "texts.txt"], "--inputs"),
    (["embed", "--checkpoint", MASKED, "--output", "a.npy", "texts.txt"], "texts.txt"),
    (["generate"], "needs --checkpoint"),
    (["generate", "--checkpoint", "nowhere.ckpt"], "nowhere.ckpt"),
    (["generate", "--checkpoint", MASKED, "--prompt", "a"], "MaskedLM"),
    (["generate", "--checkpoint", CAUSAL, "--prompt", "a", "--number", "2"], "--number"),
    (["generate", "--checkpoint", CAUSAL, "--prompt", "a", "--input", "texts.txt"], "--input"),
    (["generate", "--checkpoint", CAUSAL, "--prompt", "the dog " * 100], "max_length"),
    (["generate", "--checkpoint", CAUSAL, "--input", "nowhere.txt"], "nowhere.txt"),
    (["generate", "--checkpoint", CAUSAL, "--prompt", "a", "--max_new_tokens=1000000"], "max_new_tokens"),
    (["generate", "--checkpoint", DRAWN, "--prompt", "a"], "--prompt"),
    *((["generate", "--checkpoint", DRAWN, "--number", bad], "number") for bad in ("-1", "1.5", "x")),
    *(
        (["generate", "--checkpoint", checkpoint, *prompt, f"--{option}={bad}"], option)
        for checkpoint, prompt in ((CAUSAL, ["--prompt", "a"]), (DRAWN, []))
        for option, values in {
            "temperature": ["-1", "nan", "inf", "x"],
            "top_k": ["-1", "0", "1.5", "x"],
            "top_p": ["-1", "0", "1.5", "nan", "x"],
            "max_new_tokens": ["-1", "0", "1.5", "x"],
            "seed": ["-1", "99999999999999999999999", "1.5", "x"],
        }.items()
        for bad in values
    ),
    (["score"], "needs --checkpoint"),
    (["score", "--checkpoint", "nowhere.ckpt", "--input", "texts.txt"], "nowhere.ckpt"),
    (["score", "--checkpoint", CAUSAL, "--input", "nowhere.txt"], "nowhere.txt"),
    (["score", "--checkpoint", CAUSAL, "--inptu", "texts.txt"], "did you mean --input?"),
    (["fill-mask"], "needs --checkpoint"),
    (["fill-mask", "--checkpoint", CAUSAL, "--text", "[MASK]"], "CausalLM"),
    (["fill-mask", "--checkpoint", MASKED, "--text", "no mask"], "[MASK]"),
    (["fill-mask", "--checkpoint", MASKED, "--text", ""], "[MASK]"),
    (["fill-mask", "--checkpoint", MASKED, "--text", "[MASK]", "--input", "texts.txt"], "--input"),
    (["fill-mask", "--checkpoint", MASKED, "--text", "the dog " * 100 + "[MASK]"], "max_length"),
    (["fill-mask", "--checkpoint", MASKED, "--input", "empty.txt"], "empty.txt"),
    *(
        (["fill-mask", "--checkpoint", MASKED, "--text", "[MASK]", f"--top_k={bad}"], "top_k")
        for bad in ("0", "-1", "x")
    ),
    *(([command], "--run") for command in ("validate", "test", "predict")),
    *(([command, "--run", "gone"], "gone") for command in ("validate", "test", "predict")),
    *(([command, "--run", "folder"], "folder") for command in ("validate", "test", "predict")),
    (["validate", "--run", "done", "--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
    (["validate", "--run", "done", "--ckpt_path", "binary.txt"], "binary.txt"),
    (["validate", "--run", "done", "--data.corpus.train", "nowhere.txt"], "nowhere.txt"),
    (["validate", "--run", "done", "--data.batch_sizes", "3"], "batch_size"),
    (["validate", "--run"], "--run"),
    (["evaluate"], "evaluate needs MODEL"),
    (["evaluate", "gone"], "gone"),
    (["evaluate", "folder/gone"], "folder/gone"),
    (["evaluate", "nowhere.ckpt"], "nowhere.ckpt"),
    (["evaluate", "half.ckpt"], "half.ckpt"),
    (["evaluate", "pretrained:nowhere/at/all"], "nowhere/at/all"),
    (["evaluate", "pretrained:"], "no tokenizer at ''"),
    (["evaluate", MASKED, "--suite", "everything"], "everything"),
    (["evaluate", MASKED, "--suite", "docs", "--config", "suite.yaml"], "two suites"),
    (["evaluate", MASKED, "--suite", "files"], "--config"),
    (["evaluate", MASKED, "--suite", "files", "--config", "suite.yaml"], "suite.yaml: unknown ending"),
    (["evaluate", MASKED, "--wandb", "sometimes"], "wandb"),
    *(
        (["evaluate", MASKED, "--config", bad], bad)
        for bad in (
            "nowhere.yaml",
            "folder",
            "binary.txt",
            "list.yaml",
            "broken.yaml",
            "unknown.yaml",
            "text.yaml",
            "suite.yaml",
        )
    ),
    (["compare"], "compare needs RUN"),
    (["compare", "gone"], "gone"),
    (["compare", "folder"], "folder"),
    (["compare", "texts.txt"], "texts.txt"),
    (["compare", "done", "--suite", "everything"], "everything"),
    (["compare", "done", "--suite", "files"], "--config"),
    (["compare", "done", "--config", "nowhere.yaml"], "nowhere.yaml"),
    *((["compare", "done", "--output", bad], bad) for bad in ("texts.txt", "folder", "texts.txt/a", "/proc/a/b")),
    (["compare", "done", "--", "--data.length=3"], "--seeds"),
    *(
        (["compare", "--seeds", bad, str(CONFIGS / "masked_lm.yaml"), "--output", "new"], "seeds")
        for bad in ("0", "-1", "1.5", "x", "")
    ),
    (["compare", "--seeds", "1", "nowhere.yaml", "--output", "new"], "nowhere.yaml"),
    (["compare", "--seeds", "1", "list.yaml", "--output", "new"], "list.yaml"),
    (["compare", "--seeds", "1", "binary.txt", "--output", "new"], "binary.txt"),
    (["compare", "--seeds", "1", "masked_lm", "masked_lm", "--output", "new"], "masked_lm"),
    (["compare", "--seeds", "1", "masked_lm", "--output", "new", "--", "--data.batch=3"], "--data.batch_size"),
]


# -------------------------------------------------------------------------------------------------------------- the sweep


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bad files of every kind, three checkpoints and a finished run."""
    folder = tmp_path_factory.mktemp("bad")
    write_texts(folder)
    (folder / "folder").mkdir()
    (folder / "folder" / "other.dat").touch()
    (folder / "empty.txt").touch()
    (folder / "blank.txt").write_text("\n \n")
    (folder / "one.txt").write_text("one document\n")
    (folder / "binary.txt").write_bytes(bytes(range(256)) * 4)
    (folder / "utf16.txt").write_bytes("data: text\n".encode("utf-16"))
    (folder / "list.yaml").write_text("[1, 2]\n")
    (folder / "text.yaml").write_text("only text\n")
    (folder / "broken.yaml").write_text("data: [1\n")
    (folder / "unknown.yaml").write_text("nonsense: {unknown.yaml: 1}\n")
    (folder / "suite.yaml").write_text("name: mine\ndata: {a: {task: classification, train: suite.yaml, label: x}}\n")
    (folder / "a.csv").write_text("text,label\none,1\nI ate pie, ice cream,2\n")
    (folder / "a.xml").write_text("<a/>")
    (folder / "a.parquet").write_text("no parquet")
    (folder / "a.txt.gz").write_text("no gzip")
    (folder / "a.jsonl").write_text('{"text": "a"}\n{"text": 3}\n')
    (folder / "there.npy").write_bytes(b"mine")
    (folder / "half.ckpt").write_bytes(b"PK\x03\x04half")
    torch.save({}, folder / "other.ckpt")
    torch.manual_seed(0)
    tokenizer = get_tokenizer(TokenizerSettings(vocab_size=300), ListCorpus(random_texts(60)))
    for name, kind in ((MASKED, MaskedLM), (CAUSAL, CausalLM), (DRAWN, VAE)):
        encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=128)
        save_untrained(kind(encoder), tokenizer, folder / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(*fit("masked_lm"), "--run=done") == 0
        (folder / "runs" / "folder").mkdir()
    return folder


def fit(method: str) -> list[str]:
    """Arguments of a `fit` that would take a single step."""
    short = ["--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"]
    return ["fit", "--config", str(CONFIGS / f"{method}.yaml"), *small("texts.txt"), *tiny_encoder(method), *short]


CASES = [
    ([*fit(method), *arguments], culprit, " ".join([method, *arguments])) for method, arguments, culprit in fit_cases()
]
CASES += [(arguments, culprit, " ".join(arguments)) for arguments, culprit in OTHER]


def files_of(folder: Path) -> dict[Path, int]:
    """The files in a folder, each with the time of its last change, except locks, which belong to no run."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_there_are_many():
    assert len(CASES) > 300


@pytest.mark.parametrize(
    ("arguments", "culprit"), [case[:2] for case in CASES], ids=[ascii(case[2])[1:60] for case in CASES]
)
def test_bad_input_is_refused_in_one_line(arguments, culprit, prepared, monkeypatch, capfd):
    monkeypatch.chdir(prepared)
    before = files_of(prepared)
    status = run(*arguments)
    shown = capfd.readouterr().err
    lines = [line for line in shown.splitlines() if line.startswith("ssl-nlp: ")]
    after = files_of(prepared)
    for path in after.keys() - before.keys():  # what one case leaves must not decide over another
        path.unlink()
    for folder in [path for path in (prepared / "runs").glob("[!.]*") if path.name not in ("done", "folder")]:
        shutil.rmtree(folder)
    assert (status, len(lines)) == (2, 1), shown
    assert culprit in lines[0]
    assert "Traceback" not in shown
    assert len(lines[0]) < 600
    assert after == before
