"""`tune`: search the settings of methods, each with the same number of trials and the same budget, and compare the best."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from ssl_nlp import durable, terminal
from ssl_nlp.commands.budget import Budget, parse_budget, steps_within
from ssl_nlp.commands.compare import check_folder, compare
from ssl_nlp.commands.fit import plan_model
from ssl_nlp.commands.parser import CommandParser
from ssl_nlp.commands.shipped import find_config
from ssl_nlp.commands.suite_options import add_suite_options, check_suite_options
from ssl_nlp.commands.train_runs import plan
from ssl_nlp.commands.trials import RESOURCES, Outcome, Search, Tuned, optuna
from ssl_nlp.commands.tuning_space import as_arguments, check_costs, draw, read_spaces, space_of
from ssl_nlp.comparison.tuning import RECORD, MethodTrials, Tuning, write_tuning
from ssl_nlp.errors import UserError, refuse
from ssl_nlp.evaluation import Evaluator, Suite, get_suite
from ssl_nlp.evaluation.capabilities import lacks
from ssl_nlp.evaluation.suite import with_validation_items
from ssl_nlp.names import check_name
from ssl_nlp.runs.run import differences

SPACE = "tuning/methods"
BUDGET = (
    "training of each trial that is not stopped early: 900steps, tokens=2e6, flops=2e12, or seconds=60 of processors"
)
SETTINGS = "settings.json"
NOT_KEPT = ("run", "seed_everything", "ckpt_path", "weights_only", "wandb")  # of a configuration that others train with


def tune(arguments: Sequence[str], imports: Sequence[str] = ()) -> None:
    """Search settings by validation scores, write the best of each method, and report them once on test items.

    Args:
        arguments: those after `tune`.
        imports: the values of `--import`, for the processes that train.

    Raises:
        UserError: the user made a mistake, or no trial of a method has a score.
    """
    arguments = list(arguments)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    extra = arguments[len(own) + 1 :]
    options = _parser().parse_args(own)
    check_suite_options(options.suite, options.config)
    least = {"trials": 1, "seeds": 0, "seed": 0}
    refuse(
        {
            f"--{name} must be {low} or more, not {getattr(options, name)}": getattr(options, name) < low
            for name, low in least.items()
        }
    )
    optuna()  # raises its error before anything is read
    output = Path(options.output).resolve()
    check_name(output.name, "--output")
    if options.seeds:
        check_folder(Path(options.output))
    budget = read_budget(options.budget)
    suite = get_suite(options.suite or "docs", options.config)
    evaluator = with_validation_items(suite, options.evaluator)
    methods = _methods(options.configs, budget, output.name, extra, options.space, evaluator, imports)
    score = {"suite": options.suite or "docs", "config": options.config, "evaluators": [options.evaluator]}
    search = Search(
        output.name,
        score,
        f"eval_valid/{suite.name}/{options.evaluator}",
        evaluator.higher_is_better,
        options.seed,
        imports,
        [f"--wandb.mode={options.wandb or 'disabled'}", f"--wandb.group={output.name}"],
    )
    search.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(search.folder.parent / f".{search.name}.lock", timeout=0):
            _check_settings(search, suite, methods)
            best = _search(search, methods, options.trials, options.budget, suite, imports)
    except Timeout as error:
        raise UserError(f"another process tunes {search.name}: wait, or choose another --output") from error
    if options.seeds:
        chosen = [] if options.suite is None else [f"--suite={options.suite}"]
        chosen += [] if options.config is None else [f"--config={options.config}"]
        chosen += [] if options.wandb is None else [f"--wandb={options.wandb}"]
        # A step with the best settings may cost more or less than one with those of the configuration.
        chosen += [f"--budget={options.budget}"] if isinstance(budget, Budget) else []
        compare(
            [
                *map(str, best),
                *chosen,
                f"--seeds={options.seeds}",
                f"--output={options.output}",
                "--tuning",
                search.name,
            ],
            imports,
        )


def _parser() -> CommandParser:
    parser = CommandParser(
        prog="ssl-nlp tune",
        description="Search the settings of methods by a score on validation items: the same number of trials and the "
        "same budget for each. Poor trials stop early. The same command resumes a search that was stopped. In the end the "
        "best settings of each method are trained with fresh seeds, and compared on test items.",
        epilog="Arguments after -- go to every fit, as in: ssl-nlp tune masked_lm simclr --budget 900steps -- --config "
        "trainer/demo. Everything is in runs/tuning/NAME, where NAME is the name of the --output folder.",
    )
    parser.add_argument("configs", nargs="+", type=str, metavar="CONFIG", help="configurations for fit, one a method")
    parser.add_argument("--trials", type=int, default=20, help="trials of each method")
    parser.add_argument("--budget", type=str, required=True, help=BUDGET)
    described = "a YAML file with the settings to search, and their ranges"
    parser.add_argument("--space", type=str, default=SPACE, help=described)
    parser.add_argument(
        "--evaluator",
        type=str,
        default="linear_probe",
        help="the evaluator of the suite whose validation score decides",
    )
    add_suite_options(parser)
    parser.add_argument("--seeds", type=int, default=3, help="fresh seeds of the best settings; 0: compare nothing")
    parser.add_argument("--seed", type=int, default=0, help="from which the settings of all trials follow")
    parser.add_argument("--output", type=str, default="tuned", help="the folder of comparison.csv and report.html")
    return parser


def read_budget(given: str) -> int | Budget:
    """A number of steps, such as `900steps`, or an amount of something else, such as `tokens=2e6`.

    Raises:
        UserError: it is neither, or there are too few steps.
    """
    number = given.removesuffix("steps")
    if number.isascii() and number.isdecimal() and number != given:
        if int(number) < RESOURCES[-1]:
            raise UserError(f"--budget {given}: a trial takes {RESOURCES[-1]} steps or more")
        return int(number)
    if "=" not in given:
        raise UserError(f"--budget {given}: use a number of steps, such as 900steps, or an amount, such as tokens=2e6")
    return parse_budget(given)


def _methods(
    configs: Sequence[str],
    budget: int | Budget,
    search: str,
    extra: Sequence[str],
    space: str,
    evaluator: Evaluator,
    imports: Sequence[str],
) -> list[Tuned]:
    """The methods with their spaces, and a line about each setting that one lacks."""
    paths = [find_config(config) for config in configs]
    names = [Path(path).stem for path in paths]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f"two configurations are called {twice[0]}, and would give their runs the same names: rename one"
        )
    fits = {name: ["--config", path, *extra] for name, path in zip(names, paths, strict=True)}
    spaces = read_spaces(space)
    plans = {}
    for name, fit in fits.items():
        planned, model = plan_model(fit, imports)
        if reason := lacks(model, evaluator.needs):
            raise UserError(f"{name}: {reason}, so the evaluator cannot score its trials: use another --evaluator")
        plans[name] = yaml.safe_load(planned)
    if isinstance(budget, Budget):
        for config in plans.values():
            check_costs(space_of(spaces, config)[0])
        steps = steps_within(budget, fits, plans, search, imports)
    else:
        steps = dict.fromkeys(fits, budget)
    if few := [name for name, number in steps.items() if number < RESOURCES[-1]]:
        raise UserError(
            f"--budget: {few[0]} would train {steps[few[0]]} steps, and a trial takes {RESOURCES[-1]} or more"
        )
    fits = {name: [*fit, f"--trainer.max_steps={steps[name]}", "--trainer.max_epochs=-1"] for name, fit in fits.items()}
    methods = []
    for name, config in plan(fits, 1, imports).items():
        searched, lacking = space_of(spaces, config)
        if not searched:
            raise UserError(f"--space {space} has no setting of {name}: add one, or leave {name} out")
        terminal.say(f"{name}: searches {', '.join(searched)}" + (f"; has no {', '.join(lacking)}" if lacking else ""))
        methods.append(Tuned(name, fits[name], config, searched, lacking, steps[name]))
    return methods


def _check_settings(search: Search, suite: Suite, methods: Sequence[Tuned]) -> None:
    """Check that a search that goes on is the one that was begun; that of a new one is written down.

    Raises:
        UserError: it is another one.
    """
    asked: dict[str, Any] = {
        "seed": search.seed,
        "score": search.prefix,
        "data": suite.fingerprint,
        "methods": {
            method.name: {
                "steps": method.steps,
                "config": dict(method.config),
                "space": {option: repr(values) for option, values in method.space.items()},
            }
            for method in methods
        },
    }
    asked = json.loads(json.dumps(asked, default=str))
    path = search.folder / SETTINGS
    if not path.exists():
        durable.write_text(path, json.dumps(asked, indent=2) + "\n")
        return
    if changes := differences(json.loads(path.read_text(encoding="utf-8")), asked):
        shown = "; ".join(changes[:3]) + (f" and {len(changes) - 3} more" if len(changes) > 3 else "")
        raise UserError(f"{search.folder} was begun with other settings ({shown}): choose another --output")


def _search(
    search: Search, methods: Sequence[Tuned], trials: int, budget: str, suite: Suite, imports: Sequence[str]
) -> list[Path]:
    """Run all trials, write their record, and return the files with the best configurations."""
    total, done = trials * len(methods), 0
    outcomes: dict[str, list[Outcome]] = {method.name: [] for method in methods}
    for number in range(trials):
        for method in methods:
            done += 1
            values = draw(method.space, search.seed, method.name, number)
            terminal.say(f"[{done}/{total}] {method.name}, trial {number}: {spoken(values)}")
            known = {outcome.number for outcome in search.outcomes(method)}
            outcome = search.run(method, number)
            outcomes[method.name].append(outcome)
            again = " (done before)" if number in known else ""
            terminal.say(f"  {_said(outcome)}{again}; {_said_best(search, outcomes[method.name])}; {total - done} left")
    record = Tuning(
        search.name,
        suite.name,
        str(search.score["evaluators"][0]),
        search.higher_is_better,
        budget,
        trials,
        {
            method.name: MethodTrials(
                str(method.config["model"]["class_path"]).rpartition(".")[2],
                list(method.space),
                list(method.lacking),
                method.steps,
                [(outcome.state, outcome.score) for outcome in outcomes[method.name]],
            )
            for method in methods
        },
    )
    write_tuning(record, search.folder / RECORD)
    without = [method for method in methods if best_of(search, outcomes[method.name]) is None]
    if without:
        reason = outcomes[without[0].name][-1].reason
        raise UserError(
            f"no trial of {without[0].name} has a score ({reason}): fix what is reported, and choose another --output"
        )
    return [_write_best(search, method, outcomes[method.name], imports) for method in methods]


def best_of(search: Search, outcomes: Sequence[Outcome]) -> Outcome | None:
    """The trial with the best score after all steps, of equally good ones the first."""
    sign = 1 if search.higher_is_better else -1
    complete = [outcome for outcome in outcomes if outcome.state == "complete" and outcome.score is not None]
    return max(complete, key=lambda outcome: sign * float(outcome.score or 0), default=None)


def _write_best(search: Search, method: Tuned, outcomes: Sequence[Outcome], imports: Sequence[str]) -> Path:
    """Write the best configuration as METHOD.yaml and as METHOD-trialNUMBER.yaml, and return the path of the latter."""
    best = best_of(search, outcomes)
    assert best is not None
    fit = [*method.fit, *as_arguments(best.values)]
    config = plan({method.name: fit}, 1, imports)[method.name]
    kept = {key: value for key, value in config.items() if key not in NOT_KEPT}
    lines = [
        f"The best of {len(outcomes)} trials of {method.steps} steps: trial {best.number}",
        f"{search.prefix}: {best.score:.4g}",
        *(f"{option}: {value}" for option, value in best.values.items()),
    ]
    text = "".join(f"# {line}\n" for line in lines) + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)
    path = search.folder / f"{method.name}.yaml"
    durable.write_text(path, text)
    terminal.say(f"{method.name}: {path}")
    # Runs are named after their configuration: those of another trial, which may become the best one later, are others.
    of_trial = search.folder / f"{method.name}-trial{best.number:03}.yaml"
    durable.write_text(of_trial, text)
    return of_trial


def spoken(values: Mapping[str, Any]) -> str:
    """Settings in short: `learning_rate 0.001, optimizer adamw`."""
    return ", ".join(f"{option.rpartition('.')[2]} {value}" for option, value in values.items())


def _said(outcome: Outcome) -> str:
    if outcome.state == "failed":
        return f"failed: {outcome.reason}"
    stopped = f", stopped after step {outcome.step}" if outcome.state == "pruned" else ""
    return f"{outcome.score:.4g}{stopped}"


def _said_best(search: Search, outcomes: Sequence[Outcome]) -> str:
    best = best_of(search, outcomes)
    return "no score yet" if best is None else f"best {best.score:.4g} in trial {best.number}"
