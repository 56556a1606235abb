"""Sources of text: files, the Hugging Face hub, the documentation that is installed, a language that is known exactly."""

from ssl_nlp.corpora.base import SPLITS, Corpus, Document, Label, Span, Split
from ssl_nlp.corpora.hub_dataset import HubDataset
from ssl_nlp.corpora.installed_docs import InstalledDocs
from ssl_nlp.corpora.splits import SplitCorpus
from ssl_nlp.corpora.synthetic import HiddenMarkovLanguage
from ssl_nlp.corpora.text_files import TextFiles

__all__ = [
    "SPLITS",
    "Corpus",
    "Document",
    "HiddenMarkovLanguage",
    "HubDataset",
    "InstalledDocs",
    "Label",
    "Span",
    "Split",
    "SplitCorpus",
    "TextFiles",
]
