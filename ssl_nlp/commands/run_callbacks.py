"""The callbacks that every training of a run has."""

from lightning.pytorch import Callback

from ssl_nlp.commands.task_results import Results
from ssl_nlp.runs.run import Run
from ssl_nlp.training.callbacks import (
    Checkpoints,
    CollapseMonitor,
    Divergence,
    ExcessLoss,
    FinalValidation,
    PartScores,
    Progress,
    ProgressLines,
    RunKeeper,
    Samples,
    Throughput,
    ValidationLine,
)


def run_callbacks(
    run: Run, keeper: RunKeeper, checkpoint_every: int, keep_every: int | None, resumes: bool
) -> list[Callback]:
    """Our own callbacks in the order in which they act, the keeper first."""
    return [
        keeper,
        Divergence(),
        FinalValidation(),
        Throughput(),
        Samples(run.directory),
        Results(run.directory),
        PartScores(run.directory),
        CollapseMonitor(),
        ExcessLoss(),
        Progress(),
        ProgressLines(),
        ValidationLine(),
        Checkpoints(run.checkpoints, checkpoint_every, keep_every, resumes=resumes),
    ]
