"""The suite of word similarity and analogies, whose data come with the package gensim.

WordSim-353 (Finkelstein et al. 2002), SimLex-999 (arXiv:1408.3456) and the analogies of word2vec (arXiv:1301.3781).
"""

from pathlib import Path

from ssl_nlp.corpora.lines import read_lines
from ssl_nlp.evaluation.analogies import read_analogies
from ssl_nlp.evaluation.data_suite import Data, Task, data_suite
from ssl_nlp.evaluation.similarity import ScoredPairs
from ssl_nlp.evaluation.suite import Suite
from ssl_nlp.packages import need

SIMILARITY = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
ANALOGIES = "questions-words.txt"


def words_suite() -> Suite:
    """The suite.

    Raises:
        UserError: gensim is not installed.
    """
    gensim = need("gensim", extra="gensim", what="the suite words")
    folder = Path(gensim.__file__).parent / "test" / "test_data"
    analogies = read_analogies("word2vec", [folder / ANALOGIES])
    data: dict[str, tuple[Task, Data]] = {}
    for key, name in SIMILARITY.items():
        data[key] = ("word_similarity", _pairs(key, folder / name))
    return data_suite("words", data | {"word2vec": ("analogies", analogies)})


def _pairs(name: str, path: Path) -> ScoredPairs:
    """The pairs of a file with two words and a score a line, after comments."""
    rows = [line.split() for line in read_lines(path) if line.strip() and not line.startswith("#")]
    first, second, scores = zip(*rows, strict=True)
    return ScoredPairs(name, first, second, [float(score) for score in scores])
