"""The trials of `tune`: kept, stopped early, taken up again, with a training that writes its scores and no more."""

import json
import math
import random
import shutil
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import yaml
from filelock import FileLock

from ssl_nlp.commands import train_runs
from ssl_nlp.commands.trials import FACTOR, RESOURCES, Search, Tuned, promoted, rungs
from ssl_nlp.commands.tuning_space import Choice, Range
from ssl_nlp.errors import UserError
from ssl_nlp.interrupts import Interrupted

STEPS = 90
SPACE = {"model.rate": Range(0.0, 1.0), "model.kind": Choice(("a", [1, 2]))}
METHOD = Tuned("mine", ["--config=mine.yaml"], {}, SPACE, [], STEPS)
PREFIX = "eval_valid/docs/knn"


class Training:
    """Stands for `fit`: the score grows with the steps and is best for a rate of 0.7.

    Args:
        stop: the number of the call and the rung at which the process is asked to stop.
    """

    def __init__(self, stop=None, fails=()):
        self.stop, self.fails, self.runs, self.steps = stop, fails, [], 0

    def __call__(self, arguments, output, enough):
        given = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)
        name, number = given["run"], int(given["run"][-3:])
        self.runs.append(name)
        folder = Path("runs") / name
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(planned(arguments)))
        if number in self.fails:
            output.write(b"some output\nssl-nlp: the loss is not finite\n")
            return 1
        (folder / "run.json").write_text(json.dumps({"finished": False}))
        metrics = folder / "metrics.csv"
        begun = metrics.read_text().splitlines() if metrics.exists() else [f"step,{PREFIX}/accuracy"]
        for rung, step in enumerate(rungs(STEPS)):
            if len(begun) > rung + 1:
                continue
            if self.stop == (len(self.runs), rung):
                raise Interrupted(15)
            self.steps += step
            begun.append(f"{step},{rung / 10 - abs(float(given['model.rate']) - 0.7)}")
            metrics.write_text("\n".join(begun) + "\n")
            if enough():
                return 0
        (folder / "run.json").write_text(json.dumps({"finished": True}))
        return 0


def planned(arguments):
    """Stands for the complete configuration."""
    return {"trainer": {"max_steps": STEPS, "max_epochs": -1}, "arguments": arguments[:-1], "run": arguments[-1]}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        train_runs, "plan", lambda fits, seeds, imports: {name: planned(fit) for name, fit in fits.items()}
    )


def search(monkeypatch, training, name="mine", higher=True):
    monkeypatch.setattr(train_runs, "run_fit", training)
    return Search(name, {"evaluators": ["knn"]}, PREFIX, higher)


def test_a_trial_is_scored_after_a_ninth_a_third_and_all_of_its_steps():
    assert rungs(90) == [10, 30, 90]
    assert rungs(100) == [12, 34, 100]
    assert rungs(9) == [1, 3, 9]


def test_trials_are_stopped_as_optuna_stops_them():
    """The oracle: its pruner of successive halving, asked after each rung."""
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=FACTOR)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    rng, reached = random.Random(0), {resource: [] for resource in RESOURCES}
    for _ in range(60):
        trial = study.ask()
        ends = optuna.trial.TrialState.COMPLETE
        for resource in RESOURCES[:-1]:
            value = rng.choice([rng.random(), 0.5])  # with ties
            trial.report(value, resource)
            goes_on = promoted(value, reached[resource])
            assert trial.should_prune() is not goes_on
            reached[resource].append(value)
            if not goes_on:
                ends = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, rng.random() if ends == optuna.trial.TrialState.COMPLETE else None, state=ends)
    assert 0 < len(reached[3]) < 40
    assert not promoted(math.nan, [])


def test_good_trials_end_and_poor_ones_stop_early(monkeypatch):
    training = Training()
    done = search(monkeypatch, training)
    outcomes = [done.run(METHOD, number) for number in range(12)]
    rates = [outcome.values["model.rate"] for outcome in outcomes]
    best = min(range(12), key=lambda number: abs(rates[number] - 0.7))
    assert outcomes[best].state == "complete"
    assert outcomes[best].score == pytest.approx(0.2 - abs(rates[best] - 0.7))
    assert {outcome.state for outcome in outcomes} == {"complete", "pruned"}
    for outcome in outcomes:
        assert outcome.step in (rungs(STEPS) if outcome.state == "pruned" else [STEPS])
    assert training.steps < 12 * sum(rungs(STEPS)) / 2
    kept = done.folder / "trials"
    assert sorted(path.name for path in kept.iterdir() if path.is_dir()) == [
        f"mine-{number:03}" for number in range(12)
    ]
    assert not [*kept.glob("*/checkpoints")]
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tuning"]


def test_low_scores_may_be_the_good_ones(monkeypatch):
    done = search(monkeypatch, Training(), higher=False)
    outcomes = [done.run(METHOD, number) for number in range(6)]
    worst = max(outcomes, key=lambda outcome: abs(outcome.values["model.rate"] - 0.7))
    assert worst.state == "complete"


@pytest.mark.parametrize("stop", [(1, 1), (4, 0), (5, 0)])
def test_a_search_that_is_cut_off_goes_on_and_ends_like_one_that_was_left_alone(stop, monkeypatch):
    alone = search(monkeypatch, Training(), "alone")
    expected = [alone.run(METHOD, number) for number in range(5)]
    first = search(monkeypatch, Training(stop), "mine")
    with pytest.raises(Interrupted):
        [first.run(METHOD, number) for number in range(5)]
    again = search(monkeypatch, second := Training(), "mine")
    known = len(again.outcomes(METHOD))
    assert [again.run(METHOD, number) for number in range(5)] == expected
    assert len(second.runs) == len(set(second.runs)) == 5 - known
    assert again.outcomes(METHOD) == expected
    study = optuna.load_study(study_name="mine", storage=f"sqlite:///{again.folder / 'study.db'}")
    assert len(study.trials) == 5


def test_one_that_was_cut_off_between_its_end_and_the_record_is_not_trained_again(monkeypatch):
    class Gone(BaseException):
        pass

    def vanish(*args):
        raise Gone

    class Ending(Training):
        """Everything ends after it, before its end is recorded."""

        def __call__(self, *args):
            super().__call__(*args)
            raise Gone

    for name, training, methods in (("kept", Training(), {"_keep": vanish}), ("told", Ending(), {})):
        done = search(monkeypatch, training, name)
        with monkeypatch.context() as patch:
            for method, replacement in methods.items():
                patch.setattr(Search, method, replacement)
            with pytest.raises(Gone):
                done.run(METHOD, 0)
        assert Path(f"runs/{name}-mine-trial000").exists()
        again = Training()
        outcome = search(monkeypatch, again, name).run(METHOD, 0)
        assert (outcome.state, outcome.step) == ("complete", STEPS)
        assert not again.runs
        assert not Path(f"runs/{name}-mine-trial000").exists()


def test_a_trial_that_a_killed_search_left_training_is_waited_for(monkeypatch):
    done, training = search(monkeypatch, Training()), Training()
    run = done.run_of(METHOD, 0)
    done.folder.mkdir(parents=True)
    lock = FileLock(Path("runs") / f".{run.name}.lock")
    lock.acquire()

    def ends(self, *args, **settings):
        """The other process ends while this one waits."""
        training(done.arguments(METHOD, 0), None, lambda: False)
        lock.release()
        return acquire(self, *args, **settings)

    acquire = FileLock.acquire
    monkeypatch.setattr(FileLock, "acquire", ends)
    monkeypatch.setattr(train_runs, "run_fit", None)  # it is not trained again
    assert done.run(METHOD, 0).state == "complete"
    assert training.runs == [run.name]


def test_the_run_of_an_earlier_search_is_neither_scored_nor_filed(monkeypatch):
    other = replace(METHOD, fit=["--config=other.yaml"])
    with pytest.raises(Interrupted):
        search(monkeypatch, Training(stop=(1, 2))).run(other, 0)
    shutil.rmtree("runs/tuning/mine")  # by the user, who forgets runs/mine-mine-trial000
    done = search(monkeypatch, Training())
    for _ in range(2):
        with pytest.raises(UserError, match="/runs/mine-mine-trial000 is in the way of a trial with other settings"):
            done.run(METHOD, 0)
    assert done.outcomes(METHOD) == []
    shutil.rmtree("runs/mine-mine-trial000")
    assert done.run(METHOD, 0).state == "complete"


def test_a_trial_that_fails_is_recorded_with_its_line_and_the_others_go_on(monkeypatch):
    done = search(monkeypatch, Training(fails=(1,)))
    outcomes = [done.run(METHOD, number) for number in range(3)]
    assert (outcomes[1].state, outcomes[1].score, outcomes[1].reason) == ("failed", None, "the loss is not finite")
    assert outcomes[0].state == "complete" and outcomes[2].state != "failed"
    monkeypatch.setattr(train_runs, "run_fit", lambda *args: -9)
    assert done.run(METHOD, 3).reason == "its process was killed by SIGKILL, perhaps for lack of memory"
    assert done.run(METHOD, 1) == outcomes[1]  # it is not tried again


def test_each_trial_has_a_seed_of_its_own_that_no_reported_run_has(monkeypatch):
    arguments = [search(monkeypatch, Training()).arguments(METHOD, number) for number in range(3)]
    seeds = [next(a for a in given if a.startswith("--seed_everything=")) for given in arguments]
    assert seeds == [f"--seed_everything={1000 + number}" for number in range(3)]
