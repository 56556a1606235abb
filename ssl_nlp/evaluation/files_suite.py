"""The user's own files as a suite, described by YAML.

    name: mine
    data:
      sentiment: {task: classification, train: train.tsv, valid: 0.1, test: test.tsv, text: sentence, label: label}
      sts: {task: similarity, test: pairs.csv, text: first, pair: second, score: score}
      captions: {task: retrieval, test: captions.jsonl, text: english, pair: german}
      search: {task: retrieval, documents: corpus.jsonl, queries: queries.jsonl, judgements: qrels/test.tsv}
      topics: {task: clustering, test: topics.tsv, text: title, label: topic}
      paraphrases: {task: pair_classification, test: pairs.tsv, text: 0, pair: 1, label: 2}
      words: {task: word_similarity, test: simlex.tsv, text: 0, pair: 1, score: 3}
      capitals: {task: analogies, test: questions-words.txt, candidates: frequent-words.txt}
      letters: {task: language_modelling, test: letters.txt}
      drawn: {task: generation, train: train.txt, test: letters.txt}
      translations: {task: generation, test: captions.jsonl, text: english, pair: german}
      mood: {task: prompts, train: train.tsv, text: sentence, label: label, template: "{text} It was {label}.",
             words: {"0": bad, "1": good}, shots: [0, 4]}
      grammar: {task: minimal_pairs, test: blimp/*.jsonl}
      order: {class_path: own_evaluator.WordOrder, init_args: {path: letters.txt}}

Paths are relative to the working directory; formats and fields are those of `TextFiles`. A classification with a `pair` is
one of pairs of texts. `valid` and `test` of a classification, and `test` of a generation without a `pair`, may be shares of
`train`. Tasks without training texts also take `valid`: files of validation items, or the share of the items of `test` that
are for validation instead (of a clustering, only a share). Without it all items are tested, and no setting of a model can
be chosen by the task. Models and baselines get the first 1,000 characters of each text, or as many as `characters` of the
data set says (null: all); minimal pairs, references and drawn texts stay whole. Queries, documents and judgements are
described in `ssl_nlp.evaluation.judged_files`, prompts in `ssl_nlp.evaluation.prompts`. A `class_path` is an evaluator of
your own (`ssl_nlp.evaluation.own`), which cuts its texts itself.
"""

from pathlib import Path
from typing import Any, get_args

import yaml

from ssl_nlp.corpora.readers import Format
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.data_suite import Data, Task, data_suite
from ssl_nlp.evaluation.evaluator import Evaluator
from ssl_nlp.evaluation.file_tasks import KINDS, ClusteredFiles, GeneratedFiles, LabelledFiles
from ssl_nlp.evaluation.generation_suite import GENERATION
from ssl_nlp.evaluation.hub_suites import HUB_SUITES
from ssl_nlp.evaluation.limits_suite import LIMITS
from ssl_nlp.evaluation.own import check_settings, own_evaluator
from ssl_nlp.evaluation.suite import Suite
from ssl_nlp.names import check_name

RESERVED = ("docs", "prompts", "words", GENERATION, LIMITS, "files", *HUB_SUITES)


def files_suite(path: str | Path) -> Suite:
    """The suite that a YAML file describes.

    Raises:
        UserError: the file cannot be read or describes nothing, or something is wrong with what it names.
    """
    try:
        config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read --config {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"--config {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict) or config.keys() != {"name", "data"} or not isinstance(config["data"], dict):
        raise UserError(f"--config {path}: give it `name: NAME` and `data:` with a data set or more, and nothing else")
    name = str(config["name"])
    check_name(name, f"--config {path}: `name`")
    if name in RESERVED:
        raise UserError(f"--config {path}: `name: {name}` is taken: choose another")
    if not config["data"]:
        raise UserError(f"--config {path}: `data` is empty: describe at least one data set")
    if wrong := [key for key in config["data"] if "/" in str(key)]:
        raise UserError(f"--config {path}: the data set {wrong[0]!r} has a / in its name: leave it out")
    data: dict[str, tuple[Task, Data]] = {}
    own: dict[str, Evaluator] = {}
    for key, given in config["data"].items():
        if isinstance(given, dict) and "class_path" in given:
            own[str(key)] = own_evaluator(f"{path}, {key}", given)
        else:
            data[str(key)] = _data(f"{path}, {key}", given)
    return data_suite(name, data, own)


def _data(place: str, given: Any) -> tuple[Task, Data]:
    if not isinstance(given, dict) or given.get("task") not in list(KINDS):
        raise UserError(
            f"{place}: set `task` to one of {', '.join(KINDS)}, or `class_path` to an evaluator of your own"
        )
    task: Task = given["task"]
    kind, settings = KINDS[task], {key: value for key, value in given.items() if key != "task"}
    check_settings(place, task, kind, settings)
    for key, value in settings.items():
        if not _is_of_kind(key, value, kind):
            raise UserError(f"{place}: `{key}: {value}` is not a valid setting for {task}: correct it, or leave it out")
    return task, kind(**settings).read(place, task)


def _is_of_kind(key: str, value: Any, kind: type) -> bool:
    if kind is ClusteredFiles and key == "valid":
        return isinstance(value, int | float) and 0 < value < 1
    if key == "valid" and not issubclass(kind, LabelledFiles) and (value is None or isinstance(value, int | float)):
        return True
    if key in ("train", "valid", "test", "candidates", "documents", "queries", "judgements"):
        several = value if isinstance(value, list) else [value]
        share = issubclass(kind, LabelledFiles | GeneratedFiles) and key != "train" and isinstance(value, int | float)
        return share or (bool(several) and all(isinstance(path, str) for path in several))
    if key in ("template", "separator", "rank"):
        return isinstance(value, str)
    if key in ("draws", "seed"):
        return type(value) is int
    if key == "characters":
        return value is None or (type(value) is int and value > 0)
    if key in ("shots", "calibration"):
        several = value if isinstance(value, list) else [value]
        return all(type(one) is (int if key == "shots" else str) for one in several)
    if key == "words":
        return isinstance(value, dict) and bool(value)
    if key == "format":
        return value is None or value in list(get_args(Format))
    optional = (issubclass(kind, LabelledFiles) and key == "pair") or key == "part"
    return isinstance(value, int | str) or (value is None and optional)
