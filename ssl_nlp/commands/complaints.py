"""The complaints of jsonargparse in plain words, and the option that an unknown one may mean."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

COMPLAINTS = {  # of jsonargparse about a value, and what they mean
    r"Expected a typing\.Literal\[(.*?)\]": r"must be one of \1",
    r"Expected a dot import path string: (.*)": r"there is no class \1: ssl-nlp fit --help lists them",
    r"(?:Problem with given class_path '.*?': )?Importing '(.*?)' is not allowed.*": (
        r"\1 is not a known class: if it is yours, name its file with --import FILE.py"
    ),
    r"Expected an? <class '(\w+)'>": r"must be of type \1",
    r"Option (.*) is not accepted": r"there is no option \1",
    r"Expected an instantiatable class, but [\w.]+ is abstract": r"choose a class first: ssl-nlp fit --help lists them",
}
SETTINGS = r"Expected a dot import path string: .*|Not a valid subclass of .*"  # about what might have been a class
ABSTRACT = "Expected an instantiatable class, but is abstract"
IDLE = r"^Expected a <class 'NoneType'>$|^(- )?Expected a path but |^$"  # complaints about what nobody tried to write
OF_OPTION = (
    r"[\w.]+(?:: | must be |(?: and [\w.]+)* (?:is|are) missing)"  # how a complaint that names its option begins
)
BELOW = re.compile(r"\bNestedArg\(key='([\w.]+)', val=")  # what jsonargparse makes of OPTION.KEY
LIKE = 0.6  # names that share less are too different to suggest


def plain_complaint(message: str) -> str:
    """A parser's complaint in one line: the option and what is wrong with it, without all the types that were tried."""
    line = " ".join(message.split())
    if line.startswith("the following arguments are required: fit."):
        return "fit needs a configuration, such as ssl-nlp fit --config masked_lm"
    if found := re.match("unrecognized arguments: (?!--)(.*)", line):
        return f"unexpected argument {found[1]}: --help lists all options"
    if found := re.match("the following arguments are required: (.*)", line):
        missing = found[1].split(", ")
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: --help explains the arguments"
    if found := re.match(r'Parser key "([^"]+)": (.*)', line):
        option, tried = found.groups()
        tried, _, given = tried.partition(" Given value type: ")
        complaints = re.split(rf" - (?=Expected an? |Option |{SETTINGS}|{OF_OPTION})", tried.split("Errors: - ")[-1])
        complaints = [text.removeprefix("- ") for text in complaints if not re.search(IDLE, text)]
        value = given.partition(" Given value: ")[2]
        if ABSTRACT in complaints:
            complaints = [f"{value} is an abstract class: define each of its abstract methods"]
        elif any("typing.Literal" in text for text in complaints):
            complaints = [re.sub("Expected a dot import path string: .*", "a known class", text) for text in complaints]
        types = re.findall(r"<class '(?:[\w.]+\.)?(\w+)'>", tried.partition("Errors: - ")[0])
        if any(text.startswith("Option ") for text in complaints):  # a class with options was meant
            complaints = [text for text in complaints if text.startswith("Option ")]
        elif any(re.match("Expected an? <class", text) for text in complaints):  # or a plain value would do
            complaints = [re.sub(SETTINGS, f"Expected a <class '{types[-1]}'>", text) for text in complaints]
        complaints = [re.sub(r"\. Got value: .*", "", text) for text in complaints[:-1]] + complaints[-1:]
        for pattern, plain in COMPLAINTS.items():
            complaints = [re.sub(pattern, plain, text) for text in complaints]
        inner = [text for text in complaints if re.match(OF_OPTION, text)]  # of an option within this one
        line = f"{option}.{inner[0]}" if inner else f"{option}: {' or '.join(dict.fromkeys(complaints))}"
        if (
            (nested := re.search(r"NestedArg\(key='([\w.]+)\.(\w+)'", given))
            and inner
            and re.match(rf"{nested[2]}\b", inner[0])
        ):
            line = f"{option}.{nested[1]}.{inner[0]}"
        line = (
            line.replace(": must be ", " must be ").replace(" or must be ", " or ").replace(". Got value: ", ", not ")
        )
        if value and not value.startswith("NestedArg(") and " must be " in line and ", not " not in line:
            line += f", not {value}"
        below = BELOW.search(line) or (None if inner else BELOW.search(value))
        if below and " must be " in line:
            line = f"{line.partition(' must be ')[0]} is a single value, without an option {below[1]}"
    return line if len(line) < 500 else line[:240] + " ... " + line[-240:]


def constructor_complaint(message: str) -> str | None:
    """The complaint of a constructor, among those about all types that an option may have; None if there is none."""
    said = re.findall(r"^ *- (?!Expected |Does not validate |Option |Problem with )(.+)", message, re.MULTILINE)
    return said[-1] if said else None


def nearest(option: str, known: Iterable[str]) -> str | None:
    """The option whose name, and then whose place, is most like this one; None if none is similar.

    An option of another part of the configuration is suggested only if it has exactly this name.
    """
    parts = ("--model.", "--data.", "--trainer.", "--wandb.")
    place = next((part for part in parts if option.startswith(part)), "")

    def likeness(one: str, other: str) -> float:
        return SequenceMatcher(None, one, other).ratio()

    leaf = option.rpartition(".")[2].lstrip("-")
    scored = [(likeness(leaf, other.rpartition(".")[2].lstrip("-")), likeness(option, other), other) for other in known]
    scored = [score for score in scored if score[0] == 1 or score[2].startswith(place)]
    best = max(scored, default=(0.0, 0.0, ""))
    return best[2] if best[0] > LIKE else None
