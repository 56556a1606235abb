"""The trials of `tune`: trainings with settings drawn at random, of which the poor ones stop early.

Everything about them is in `runs/tuning/NAME/`: `study.db`, an Optuna study for each method; `trials/METHOD-NUMBER/`, the
run without its checkpoints, and `trials/METHOD-NUMBER.log`, what it printed. A trial that is cut off goes on where it was.
"""

import math
import os
import shutil
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from ssl_nlp.commands import train_runs
from ssl_nlp.commands.imports import as_options
from ssl_nlp.commands.tuning_space import Choice, Space, as_arguments, draw
from ssl_nlp.errors import UserError
from ssl_nlp.packages import need
from ssl_nlp.runs.metrics_csv import read_numbers
from ssl_nlp.runs.run import RUNS, Run

FACTOR = 3
"""The share of the trials that go on from one rung to the next is 1 / FACTOR."""
RESOURCES = (1, 3, 9)
"""Shares of the steps, in ninths, after which a trial is scored: its rungs."""
FIRST_SEED = 1000  # of the trials: the runs that are reported have other seeds


def optuna() -> Any:
    """The package.

    Raises:
        UserError: it is not installed.
    """
    package = need("optuna", extra="tune", what="ssl-nlp tune")
    package.logging.set_verbosity(package.logging.WARNING)
    return package


def rungs(steps: int) -> list[int]:
    """The steps after which a trial of so many steps is scored."""
    return [-(-steps * resource // RESOURCES[-1]) for resource in RESOURCES]


def promoted(value: float, others: Iterable[float]) -> bool:
    """Whether a trial goes on from a rung: it is among the best third of all that have reached it, or the best so far.

    Asynchronous successive halving (Li et al., arXiv:1810.05934, algorithm 2), except that no earlier trial is taken up
    again. The decision follows from the values alone, so a search that resumes decides as before.

    Args:
        value: of the trial at the rung; higher is better.
        others: those of the other trials that have reached it.
    """
    values = [*others, value]
    return not math.isnan(value) and sum(other > value for other in values) < max(len(values) // FACTOR, 1)


@dataclass(frozen=True)
class Tuned:
    """A method whose settings are searched.

    Attributes:
        name: of its configuration.
        fit: the arguments of each `fit`, without the settings that are searched.
        config: the complete configuration that they make.
        space: the settings that are searched.
        lacking: settings for all methods that it does not have.
        steps: of the optimizer in a trial that is not stopped early.
    """

    name: str
    fit: Sequence[str]
    config: Mapping[str, Any]
    space: Space
    lacking: Sequence[str]
    steps: int


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        number: of the trial, from 0.
        values: of the settings.
        state: `complete`, `pruned` or `failed`.
        score: on validation items, the last one; None if there is none.
        step: at which it was measured.
        reason: of the failure.
    """

    number: int
    values: Mapping[str, Any]
    state: str
    score: float | None = None
    step: int | None = None
    reason: str = ""


@dataclass
class Search:
    """The trials of all methods.

    Attributes:
        name: of the search.
        score: the settings of the callback `OnlineProbe`, without its steps.
        prefix: of the logged score.
        higher_is_better: whether it is good if high.
        seed: of the draws.
        imports: the values of `--import`.
        more: further arguments of each `fit`, which do not change the training.
    """

    name: str
    score: Mapping[str, Any]
    prefix: str
    higher_is_better: bool
    seed: int = 0
    imports: Sequence[str] = ()
    more: Sequence[str] = ()
    _studies: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where everything is."""
        return RUNS.absolute() / "tuning" / self.name

    def outcomes(self, method: Tuned) -> list[Outcome]:
        """The outcomes of the trials of a method that have ended."""
        trials = self._study(method).get_trials(deepcopy=False)
        return [self._outcome(method, trial) for trial in trials if trial.state.is_finished()]

    def run(self, method: Tuned, number: int) -> Outcome:
        """Run a trial, or go on with it; return how it ended.

        Raises:
            Interrupted: this process was asked to stop. The trial is not finished then.
            UserError: there is a run of its name that is not this trial.
        """
        states = optuna().trial.TrialState
        study, run = self._study(method), self.run_of(method, number)
        trial = self._trial(method, number)
        if not self._frozen(method, number).state.is_finished():
            status = 0
            log = self.folder / "trials" / f"{method.name}-{number:03}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with self._lock(
                run
            ):  # a search that was killed may have left the process of this trial behind: wait for it
                pass
            if run.directory.exists() and not self._frozen(method, number).intermediate_values:
                self._check_run(method, number)
            if not run.finished and not self._pruned(trial, method, run):
                with log.open("ab") as output:
                    status = train_runs.run_fit(
                        self.arguments(method, number), output, lambda: self._pruned(trial, method, run)
                    )
            pruned = self._pruned(trial, method, run)
            score = self._frozen(method, number).intermediate_values.get(RESOURCES[-1])
            if pruned:
                study.tell(number, state=states.PRUNED)
            elif run.finished and score is not None and math.isfinite(score):
                study.tell(number, score)
            else:
                trial.set_user_attr("reason", _reason(status, log, score))
                study.tell(number, state=states.FAIL)
        self._keep(method, number)
        return self._outcome(method, self._frozen(method, number))

    def _check_run(self, method: Tuned, number: int) -> None:
        """Check that the run with the name of a trial is this trial, and not the remnant of a search that was deleted.

        Raises:
            UserError: it is not.
        """
        run = self.run_of(method, number)
        planned = train_runs.plan({method.name: self._fit(method, number)}, 1, self.imports)[method.name]
        try:
            run.check(yaml.safe_dump(planned))
        except UserError as error:
            raise UserError(
                f"{run.directory} is in the way of a trial with other settings, perhaps from an earlier search: delete "
                "this folder, or choose another --output"
            ) from error

    def arguments(self, method: Tuned, number: int) -> list[str]:
        """The arguments of the `fit` of a trial."""
        return [*as_options(self.imports), *self._fit(method, number)]

    def _fit(self, method: Tuned, number: int) -> list[str]:
        callback = {"class_path": "ssl_nlp.training.callbacks.OnlineProbe"}
        arguments = {"steps": rungs(method.steps), **self.score}
        return [
            *method.fit,
            *as_arguments(draw(method.space, self.seed, method.name, number)),
            *as_arguments({"trainer.callbacks+": callback | {"init_args": arguments}}),
            f"--seed_everything={FIRST_SEED + number}",
            *self.more,
            f"--run={self.run_of(method, number).name}",
        ]

    def run_of(self, method: Tuned, number: int) -> Run:
        """The run of a trial while it trains."""
        return Run(f"{self.name}-{method.name}-trial{number:03}")

    # ------------------------------------------------------------------------------------------------------------- storage

    def _study(self, method: Tuned) -> Any:
        if method.name not in self._studies:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._studies[method.name] = optuna().create_study(
                storage=f"sqlite:///{self.folder / 'study.db'}",
                study_name=method.name,
                direction="maximize" if self.higher_is_better else "minimize",
                load_if_exists=True,
            )
        return self._studies[method.name]

    def _trial(self, method: Tuned, number: int) -> Any:
        """A trial, which is added to the study with its settings in one go if it is not there."""
        package, study = optuna(), self._study(method)
        trials = study.get_trials(deepcopy=False)
        if number == len(trials):
            drawn = draw(method.space, self.seed, method.name, number)
            added = package.trial.create_trial(
                state=package.trial.TrialState.RUNNING,
                params={option: _plain(value) for option, value in drawn.items()},
                distributions={option: _distribution(package, values) for option, values in method.space.items()},
            )
            study.add_trial(added)
            trials = study.get_trials(deepcopy=False)
        return package.trial.Trial(study, trials[number]._trial_id)

    def _frozen(self, method: Tuned, number: int) -> Any:
        """A trial as it is in the storage."""
        return self._study(method).get_trials(deepcopy=False)[number]

    def _pruned(self, trial: Any, method: Tuned, run: Run) -> bool:
        """Keep the scores that a trial has logged; whether it stops at one of its rungs but the last."""
        known = dict(self._frozen(method, trial.number).intermediate_values)
        logged = _logged(run, self.prefix)
        sign = 1 if self.higher_is_better else -1
        for step, resource in zip(rungs(method.steps), RESOURCES, strict=True):
            if resource not in known:
                if step not in logged:
                    return False
                trial.report(logged[step], resource)
                known[resource] = logged[step]
            others = [
                other.intermediate_values[resource]
                for other in self._study(method).get_trials(deepcopy=False)[: trial.number]
                if resource in other.intermediate_values
            ]
            if resource < RESOURCES[-1] and not promoted(sign * known[resource], [sign * value for value in others]):
                return True
        return False

    def _outcome(self, method: Tuned, trial: Any) -> Outcome:
        values = draw(method.space, self.seed, method.name, trial.number)
        state = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}[trial.state.name]
        reason = trial.user_attrs.get("reason", "")
        if state == "failed":
            return Outcome(trial.number, values, state, reason=reason)
        last = max(trial.intermediate_values)
        step = rungs(method.steps)[RESOURCES.index(last)]
        return Outcome(trial.number, values, state, trial.intermediate_values[last], step)

    def _keep(self, method: Tuned, number: int) -> None:
        """Move the run of a trial that has ended out of the way, without its checkpoints."""
        run = self.run_of(method, number)
        if run.directory.is_dir():
            shutil.rmtree(run.checkpoints, ignore_errors=True)
            os.replace(run.directory, self.folder / "trials" / f"{method.name}-{number:03}")
        Path(self._lock(run).lock_file).unlink(missing_ok=True)

    def _lock(self, run: Run) -> FileLock:
        """The lock that a process holds while it trains the run."""
        return FileLock(run.directory.parent / f".{run.name}.lock")


def _logged(run: Run, prefix: str) -> dict[int, float]:
    """The scores that a run has logged, by step."""
    rows = read_numbers(run.directory / "metrics.csv")
    return {int(row["step"]): value for row in rows for name, value in row.items() if name.startswith(f"{prefix}/")}


def _plain(value: Any) -> Any:
    """A value that Optuna can keep."""
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _distribution(package: Any, values: Any) -> Any:
    if isinstance(values, Choice):
        return package.distributions.CategoricalDistribution([_plain(value) for value in values.values])
    kind = package.distributions.IntDistribution if values.whole else package.distributions.FloatDistribution
    return kind(values.low, values.high, log=values.log)


def _reason(status: int, log: Path, score: float | None) -> str:
    """Why a trial has failed, in one line."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"its process was killed by {name}{', perhaps for lack of memory' if name == 'SIGKILL' else ''}"
    if score is not None and not math.isfinite(score):
        return f"its score is {score}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return (lines[-1] if lines else f"exit status {status}").removeprefix("ssl-nlp: ")
