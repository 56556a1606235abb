"""Scores of generated texts against references: BLEU, chrF and ROUGE, by the libraries that define them."""

import re
from collections.abc import Sequence

import numpy as np

from ssl_nlp.evaluation.result import Result
from ssl_nlp.packages import need

EXTRA = "generation"
ROUGE = ("rouge1", "rouge2", "rougeL")
_HAN = r"\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_IS_HAN = re.compile(f"[{_HAN}]")
_PIECES = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")


def check_packages(what: str) -> None:
    """Check that the libraries are installed.

    Args:
        what: what needs them, for the message.

    Raises:
        UserError: one is missing.
    """
    need("sacrebleu", EXTRA, what)
    need("rouge_score", EXTRA, what)


def score_texts(outputs: Sequence[str], references: Sequence[str]) -> Result:
    """BLEU, chrF and ROUGE of outputs against one reference each, all of them in percent.

    BLEU and chrF are those of sacrebleu, over all texts together and cased; the details hold their signatures. If most
    references are Chinese, BLEU takes sacrebleu's tokenizer `zh` instead of `13a`. ROUGE-1, ROUGE-2 and ROUGE-L are means
    of the F1 of each text, by rouge-score without stemming. For it a word is a run of letters and digits in lower case, or
    a single Chinese character. The items are the counts of each text that BLEU is made of.

    Raises:
        UserError: a library is missing.
    """
    metrics = need("sacrebleu.metrics", EXTRA, "the score of generated texts")
    scorer = need("rouge_score.rouge_scorer", EXTRA, "the score of generated texts").RougeScorer(
        ROUGE, tokenizer=_Words()
    )
    chinese = sum(bool(_IS_HAN.search(text)) for text in references) > len(references) / 2
    words = "zh" if chinese else "13a"
    bleu, chrf = metrics.BLEU(tokenize=words), metrics.CHRF()
    single = metrics.BLEU(tokenize=words, effective_order=True)  # it counts as `bleu` does
    counted = [single.sentence_score(output, [text]) for output, text in zip(outputs, references, strict=True)]
    items = np.array([[one.sys_len, one.ref_len, *one.counts, *one.totals] for one in counted], dtype=np.int32)
    rows = [scorer.score(reference, output) for output, reference in zip(outputs, references, strict=True)]
    found = {
        "bleu": bleu.corpus_score(outputs, [references]).score,
        "chrf": chrf.corpus_score(outputs, [references]).score,
    }
    found |= {name.lower(): 100 * float(np.mean([row[name].fmeasure for row in rows])) for name in ROUGE}
    details = {"texts": len(outputs), "bleu": str(bleu.get_signature()), "chrf": str(chrf.get_signature())}
    return Result("bleu", found, details, items, "bleu")


class _Words:
    """The words of a text, for rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        return _PIECES.findall(text.lower())
