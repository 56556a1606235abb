"""`evaluate`: the evaluation protocol on frozen embeddings, beside baselines, written into each run."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import sklearn
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ssl_nlp import __version__, terminal
from ssl_nlp.cache import build_once, cache_dir, fingerprint
from ssl_nlp.commands import ngram_baseline
from ssl_nlp.commands.accelerator import accelerated
from ssl_nlp.commands.evaluation_tables import remarks, tables
from ssl_nlp.commands.learned_baselines import LearnedTexts, pretraining_texts, word_vectors
from ssl_nlp.commands.models import Target, find_target, kept_targets
from ssl_nlp.commands.overlaps import Overlaps
from ssl_nlp.commands.parser import CommandParser
from ssl_nlp.commands.run_corpus import corpus_of
from ssl_nlp.commands.suite_options import Mode, add_suite_options, check_suite_options, log_result
from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import PROTOCOL, Drawer, FreeGeneration, JudgedRetrieval, Result, Retrieval, Suite
from ssl_nlp.evaluation.baselines import VERSION, lsa, random_words, tf_idf
from ssl_nlp.evaluation.bm25 import bm25
from ssl_nlp.evaluation.cache import EmbeddingCache, embed_in_memory
from ssl_nlp.evaluation.capabilities import Embedder, Scorer, Searcher, WordScorer, lacks
from ssl_nlp.evaluation.classification import Classification
from ssl_nlp.evaluation.embedding_map import embedding_map
from ssl_nlp.evaluation.excerpts import with_shares_read
from ssl_nlp.evaluation.minimal_pairs import MinimalPairs
from ssl_nlp.evaluation.pooling import LEGEND, Poolings
from ssl_nlp.evaluation.record import SuiteResult, read_items, read_record, read_suite, write_suite
from ssl_nlp.evaluation.run import Outcome, grouped, run_evaluators
from ssl_nlp.evaluation.suites import OF_CORPUS, get_suite
from ssl_nlp.objectives.scores import Unable
from ssl_nlp.training.texts import TextModule

DESCRIPTION = "Score frozen embeddings by the evaluation protocol, beside baselines; the scores go to evaluation.json."
WIDTH = 140  # columns, where the output is no terminal


def evaluate(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Evaluate runs, checkpoints and pretrained models.

    Raises:
        UserError: the user made a mistake, which is found before anything is written.
    """
    parser = CommandParser(prog="ssl-nlp evaluate", description=DESCRIPTION)
    parser.add_argument(
        "targets",
        nargs="+",
        type=str,
        metavar="MODEL",
        help="a run (NAME or runs/NAME: its last checkpoint, also of a task), a .ckpt file, or pretrained:PATH_OR_HUB_NAME",
    )
    add_suite_options(parser)
    every = "also evaluate the checkpoints that runs have kept (fit --keep_every STEPS), for curves in the report"
    parser.add_argument("--every", action="store_true", help=every)
    options = parser.parse_args(list(arguments))
    check_suite_options(options.suite, options.config)
    targets = [find_target(name) for name in dict.fromkeys(options.targets)]
    for target in targets:
        read_record(target.record), read_items(target.record)  # raises errors about broken files
    for kept in (one for target in targets for one in kept_targets(target)) if options.every else ():
        record(options.suite, options.config, [kept], imports, options.wandb)
        terminal.say(f"{kept.name}: {kept.record}")
    name, results = record(options.suite, options.config, targets, imports, options.wandb)
    console = terminal.console(WIDTH)
    for table in tables(name, targets, results, console.width):
        console.print(table)
    if any("pooling" in one.details for result in results for one in result.evaluators.values()):
        console.print(LEGEND, style="dim", markup=False, highlight=False)
    for line in remarks(targets, results):
        console.print(f"– {line}", style="dim", markup=False, highlight=False)
    for target in targets:
        console.print(f"{target.name}: {target.record}", markup=False, highlight=False, soft_wrap=True)


# ---------------------------------------------------------------------------------------------------------- the evaluation


def record(
    suite: str | None,
    config: str | None,
    targets: Sequence[Target],
    imports: Sequence[str],
    wandb: Mode | None = None,
) -> tuple[str, list[SuiteResult]]:
    """The name of a suite, and the numbers of each target, written as `record_suite` does.

    Args:
        suite: its name; None: the one that `config` describes, or `docs`.
        config: a YAML file that describes one.
        targets: what to evaluate.
        imports: the values of `--import`.
        wandb: the mode, if it is not that of a run.
    """
    if suite in OF_CORPUS:
        return suite, _record_of_corpus(suite, targets, imports, wandb)
    found = get_suite(suite or "docs", config)
    return found.name, record_suite(found, targets, wandb, imports)


def _record_of_corpus(
    suite: str, targets: Sequence[Target], imports: Sequence[str], wandb: Mode | None
) -> list[SuiteResult]:
    """The numbers of each target on a suite that is made of the corpus that it was trained on."""
    runs = [target.run for target in targets if target.run is not None]
    if without := [target.name for target in targets if target.run is None]:
        raise UserError(f"the training text of {without[0]} is not known: --suite {suite} needs runs")
    corpora = [corpus_of(run, imports) for run in runs]
    keys = [corpus.fingerprint() for corpus in corpora]
    found: dict[int, SuiteResult] = {}  # by the place of the target
    for key in dict.fromkeys(keys):
        places = [place for place, its in enumerate(keys) if its == key]
        chosen = [targets[place] for place in places]
        results = record_suite(OF_CORPUS[suite](corpora[places[0]]), chosen, wandb, imports)
        found |= dict(zip(places, results, strict=True))
    return [found[place] for place in range(len(targets))]


def record_suite(
    suite: Suite, targets: Sequence[Target], wandb: Mode | None = None, imports: Sequence[str] = ()
) -> list[SuiteResult]:
    """The numbers of each target, which are written into its `evaluation.json` and into the summary of its W&B run.

    Each is written before the next target is evaluated, so that an interruption loses nothing.
    """
    results = []
    for target, result in zip(targets, run_suite(suite, targets, imports), strict=True):
        write_suite(target.record, target.header, suite.name, result)
        if target.run is not None:
            log_result(target, target.run, wandb, suite.name, result)
        results.append(result)
    return results


def run_suite(suite: Suite, targets: Sequence[Target], imports: Sequence[str] = ()) -> Iterator[SuiteResult]:
    """The numbers of each target and of its baselines, one by one.

    Standard error shows progress bars or, in a log, a line for each target.
    """
    console = terminal.SafeConsole(stderr=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        shared = _stored(
            "shared",
            suite,
            lambda: {
                "majority": _majority(suite),
                **_bm25(suite),
            },
        )
        if held_out := {name: e for name, e in suite.evaluators.items() if isinstance(e, FreeGeneration)}:
            shared["held_out"] = {name: evaluator.reference() for name, evaluator in held_out.items()}
        if pairs := {name: e for name, e in suite.evaluators.items() if isinstance(e, MinimalPairs)}:
            shared["shorter"] = {name: evaluator.shorter() for name, evaluator in pairs.items()}
        drawn_by_seed: dict[str, dict[str, dict[str, Result]]] = {}
        ngrams: dict[str, dict[str, dict[str, Result]]] = {}
        learned: dict[str, dict[str, dict[str, Result]]] = {}
        overlaps = Overlaps(suite)
        for number, target in enumerate(targets, start=1):
            if not console.is_terminal and len(targets) > 1:
                terminal.say(f"[{number}/{len(targets)}] {target.name}", sys.stderr)
            random = _random(suite, target, drawn_by_seed, progress)
            with accelerated(target.method):
                poolings = _poolings(suite, target.name, target.method, target.key, progress)
                try:
                    outcome = _outcome(suite, target.name, target.method, poolings, progress, target.kind)
                except UserError as error:
                    raise UserError(f"{target.name}: {error}") from error
            bar = progress.add_task(f"{target.name}: map", total=None)
            drawn = None if poolings is None else embedding_map(suite, poolings.embedders[poolings.favourite])
            progress.remove_task(bar)
            beside, reason = _ngram(suite, target, outcome, ngrams)
            read, unread = _read(suite, target, imports)
            counting, reasons = _learned(suite, read, unread, target.seed, learned, progress)
            baselines = shared | counting | random | beside
            baselines = {
                name: overlaps.added(grouped(given, suite.evaluators), read) for name, given in baselines.items()
            }
            missing = outcome.missing | reason | reasons
            found = overlaps.added(grouped(outcome.results, suite.evaluators), read)
            found = with_shares_read(found, suite.evaluators, target.method)
            yield SuiteResult(suite.fingerprint, found, baselines, drawn, missing, digests=suite.digests)


def _stored(
    key: str, suite: Suite, compute: Callable[[], dict[str, dict[str, Result]]]
) -> dict[str, dict[str, Result]]:
    """The numbers of baselines, computed once for every suite: they are the same for all runs."""
    key = fingerprint(key, VERSION, suite.fingerprint, __version__, sklearn.__version__, torch.__version__)

    def build(directory: Path) -> None:
        result = SuiteResult(suite.fingerprint, {}, compute())
        write_suite(directory / "evaluation.json", {"checkpoint": None}, suite.name, result)

    directory = build_once(cache_dir() / "baselines" / key, build)
    return read_suite(directory / "evaluation.json", suite.name).baselines


def _random(
    suite: Suite, target: Target, known: dict[str, dict[str, dict[str, Result]]], progress: Progress
) -> dict[str, dict[str, Result]]:
    """Baselines that are drawn with the seed of a target: random words, and its method before training.

    Args:
        known: the numbers of baselines by what they are drawn from, to which new ones are added.
    """

    def words() -> dict[str, dict[str, Result]]:
        return {"random_words": _outcome(suite, "random_words", None, random_words(target.seed), progress).results}

    sources = {
        f"random words {target.seed}": words,
        target.random_key: partial(_untrained, suite, target, progress),
    }
    for key, compute in sources.items():
        if key not in known:
            known[key] = _stored(key, suite, compute)
    return {name: results for key in sources for name, results in known[key].items()}


def _untrained(suite: Suite, target: Target, progress: Progress) -> dict[str, dict[str, Result]]:
    with torch.random.fork_rng():
        torch.manual_seed(target.seed)
        method = target.untrained().eval()
    name = f"{target.name}, untrained"
    # What it would draw or write is noise.
    asked = {name: e for name, e in suite.evaluators.items() if e.needs not in (Drawer, Searcher)}
    with accelerated(method):
        poolings = _poolings(suite, name, method, target.random_key, progress)
        return {"random_init": _outcome(replace(suite, evaluators=asked), name, method, poolings, progress).results}


def _read(suite: Suite, target: Target, imports: Sequence[str]) -> tuple[LearnedTexts | None, str]:
    """The texts that a target was trained on, if anything in the suite asks for them, or why they are not known."""
    if not suite.texts and not any(evaluator.item_texts for evaluator in suite.evaluators.values()):
        return None, ""
    try:
        return pretraining_texts(target.run, imports), ""
    except Unable as error:
        return None, str(error)


def _learned(
    suite: Suite,
    own: LearnedTexts | None,
    reason: str,
    seed: int,
    known: dict[str, dict[str, dict[str, Result]]],
    progress: Progress,
) -> tuple[dict[str, dict[str, Result]], dict[str, str]]:
    """Baselines that learn from training text (`ssl_nlp.commands.learned_baselines`), and the reasons for missing ones.

    Args:
        suite: whose items they predict.
        own: the texts that the model beside which they stand was trained on, if they are known.
        reason: why they are not.
        seed: of the word vectors.
        known: the numbers of baselines by what they learned from, to which new ones are added.
        progress: where bars are shown.
    """
    if not suite.texts:
        return {}, {}
    sources: dict[str, Callable[[], dict[str, dict[str, Result]]]] = {}
    if suite.train_texts:
        sources["counted"] = partial(_counted, suite, suite.train_texts, progress)
    elif own is not None:
        sources[f"counted {own.key}"] = partial(_counted, suite, own.texts, progress)
    if own is not None:
        sources[f"word vectors {own.key} {seed}"] = partial(_word_vectors, suite, own, seed, progress)
    found: dict[str, dict[str, Result]] = {}
    for key, compute in sources.items():
        try:
            if key not in known:
                known[key] = _stored(key, suite, compute)
        except UserError as error:  # no word of the text occurs twice, say
            reason = f"nothing can be learned from its training text: {error}"
            continue
        found |= known[key]
    return found, {name: reason for name in ("tfidf", "lsa", "word_vectors") if name not in found}


def _counted(suite: Suite, texts: Sequence[str], progress: Progress) -> dict[str, dict[str, Result]]:
    found = {"tfidf": tf_idf(texts), "lsa": lsa(texts)}
    return {name: _outcome(suite, name, None, poolings, progress).results for name, poolings in found.items()}


def _word_vectors(suite: Suite, texts: LearnedTexts, seed: int, progress: Progress) -> dict[str, dict[str, Result]]:
    embedders = embed_in_memory(word_vectors(texts, seed), suite.texts)
    means = Poolings({name: embedders[name] for name in ("mean", "sif")})
    return {"word_vectors": _outcome(suite, "word vectors", None, means, progress).results}


def _ngram(
    suite: Suite, target: Target, outcome: Outcome, known: dict[str, dict[str, dict[str, Result]]]
) -> tuple[dict[str, dict[str, Result]], dict[str, str]]:
    """The n-gram beside a language model, counted on the same text, in the same tokens.

    Args:
        suite: whose texts it predicts.
        target: the language model.
        outcome: its numbers. Beside a pseudo-likelihood, the n-gram only decides minimal pairs: kinds cannot be compared.
        known: the numbers of n-grams by training text and tokenizer, to which new ones are added.

    Returns:
        Its numbers, and the reason if there are none.
    """
    kinds = {result.details.get("kind") for result in outcome.results.values()}
    comparable: tuple[Any, ...] = (Scorer, WordScorer) if kinds & {"likelihood", "bound"} else ()
    if not comparable and not any("minimal_pairs" in result.details for result in outcome.results.values()):
        return {}, {}
    try:
        data = ngram_baseline.training_data(target.run)
    except Unable as error:
        return {}, {ngram_baseline.NAME: str(error)}
    scored = {n: e for n, e in suite.evaluators.items() if e.needs in comparable or isinstance(e, MinimalPairs)}
    key = f"{ngram_baseline.NAME}-{data.store('train').digest}-{data.tokenizer.fingerprint()}"
    key += "" if comparable else "-pairs"

    def compute() -> dict[str, dict[str, Result]]:
        return {ngram_baseline.NAME: run_evaluators(scored, ngram_baseline.counted(data), None).results}

    if key not in known:
        known[key] = _stored(key, suite, compute)
    return known[key], {}


def _poolings(suite: Suite, name: str, method: TextModule, key: str, progress: Progress) -> Poolings | None:
    """The embeddings of a method, which are cached under `key`; None if the suite needs none, or the method has none."""
    if not (texts := suite.texts) or lacks(method, Embedder):
        return None
    bar = progress.add_task(f"{name}: embeddings", total=None)
    cache = EmbeddingCache(method, f"{key}-{__version__}-{PROTOCOL}", lambda computed: progress.advance(bar, computed))
    progress.update(bar, total=len(cache.missing(texts)))
    embedders = cache.embedders(texts)
    progress.remove_task(bar)
    return Poolings(embedders)


def _outcome(
    suite: Suite, name: str, model: Any, poolings: Poolings | None, progress: Progress, kind: str | None = None
) -> Outcome:
    bar = progress.add_task(name, total=len(suite.evaluators) + 1)

    def show(evaluator: str) -> None:
        progress.update(bar, advance=1, description=f"{name}: {evaluator}")

    outcome = run_evaluators(suite.evaluators, model, poolings, show, kind)
    progress.remove_task(bar)
    return outcome


def _majority(suite: Suite) -> dict[str, Result]:
    classifiers = {name: e for name, e in suite.evaluators.items() if isinstance(e, Classification)}
    return {name: evaluator.majority() for name, evaluator in classifiers.items()}


def _bm25(suite: Suite) -> dict[str, dict[str, Result]]:
    searches = {name: e for name, e in suite.evaluators.items() if isinstance(e, Retrieval | JudgedRetrieval)}
    return {"bm25": bm25().evaluate(searches)} if searches else {}
