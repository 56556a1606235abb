"""Suites by name."""

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.docs_suite import docs_suite
from ssl_nlp.evaluation.files_suite import files_suite
from ssl_nlp.evaluation.generation_suite import GENERATION, generation_suite
from ssl_nlp.evaluation.hub_suites import BLIMP, HUB_SUITES, hub_suite
from ssl_nlp.evaluation.limits_suite import LIMITS, limits_suite
from ssl_nlp.evaluation.prompts_suite import prompts_suite
from ssl_nlp.evaluation.suite import Suite
from ssl_nlp.evaluation.words_suite import words_suite

INSTALLED = {
    "docs": docs_suite,
    "prompts": prompts_suite,
    "words": words_suite,
}  # made of installed packages, with which they change
FILES = "files"  # the suite that a YAML file describes
MINIMAL_PAIRS = "minimal_pairs"  # BLiMP, or the files that a copy of configs/suites/minimal_pairs.yaml describes
OF_CORPUS = {GENERATION: generation_suite, LIMITS: limits_suite}  # made of the corpus that a run was trained on
SUITES = (*INSTALLED, *OF_CORPUS, *HUB_SUITES)


def get_suite(name: str = "docs", config: str | None = None) -> Suite:
    """The suite that a YAML file describes or, without one, the suite called `name`.

    Raises:
        UserError: there is none with this name, or its data cannot be read.
    """
    if config is not None:
        return files_suite(config)
    if name == MINIMAL_PAIRS:
        try:
            return hub_suite(name, {"blimp": BLIMP})
        except UserError as error:
            raise UserError(
                f"{str(error).partition(';')[0]}; for minimal pairs in your own files, name them in a copy of "
                f"configs/suites/{name}.yaml, and give it with --config"
            ) from error
    if name not in SUITES:
        raise UserError(
            f"there is no suite {name!r}: use one of {', '.join(SUITES)}, or --config FILE for your own files"
        )
    if name in OF_CORPUS:
        raise UserError(
            f"the suite {name} is made of the text that a run was trained on: ssl-nlp evaluate RUN --suite {name}"
        )
    if name in INSTALLED:
        return INSTALLED[name]()
    return hub_suite(name)
