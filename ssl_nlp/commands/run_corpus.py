"""The corpus that a run was trained on."""

from collections.abc import Sequence

import yaml

from ssl_nlp.commands.lightning_cli import TrainerParser
from ssl_nlp.commands.trust import restrict_imports, settings_of_run
from ssl_nlp.corpora import Corpus
from ssl_nlp.errors import UserError
from ssl_nlp.runs.class_paths import with_public_paths
from ssl_nlp.runs.run import Run


def corpus_of(run: Run, imports: Sequence[str] = ()) -> Corpus:
    """The corpus in the configuration of a run.

    Args:
        run: the run.
        imports: the values of `--import`, whose classes the configuration may name.

    Raises:
        UserError: the configuration is broken, or names a class that is not known.
    """
    try:
        settings = with_public_paths(yaml.safe_load(settings_of_run(run)))["data"]["init_args"]["corpus"]
    except (KeyError, TypeError) as error:
        raise UserError(f"{run.config} names no corpus: copy the run again, or move it away") from error
    restrict_imports(imports)
    parser = TrainerParser()
    parser.add_subclass_arguments(Corpus, "corpus", required=True)
    corpus: Corpus = parser.instantiate_classes(parser.parse_object({"corpus": settings})).corpus
    return corpus
