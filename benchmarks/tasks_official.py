"""Official scorers beside ours, on the same predictions, for `tasks.py`.

seqeval is installed with the extra `dev`. The others are read from a folder of yours, where they are there:
`semeval2010_task8_scorer-v1.2.pl`, `evaluate-v2.0.py` (SQuAD) and `cmrc2018_evaluate.py`, which needs NLTK and its data.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssl_nlp.tasks import QuestionAnswering, RelationExtraction, Tagging, Task
from ssl_nlp.tasks.scoring.answers import answer_scores
from ssl_nlp.tasks.scoring.relations import relation_scores
from ssl_nlp.tasks.scoring.spans import span_scores

Pair = tuple[str, str]
"""Our score and the official one, as text."""


def official_scores(task: Task, records: Sequence[dict[str, Any]], folder: Path | None) -> dict[str, Pair]:
    """Our score and the official one of predictions (`Task.predict_records`), by scorer."""
    if isinstance(task, Tagging):
        return seqeval(records) if task.marks_spans else {}
    if folder is None:
        return {}
    with tempfile.TemporaryDirectory() as scratch:
        if isinstance(task, RelationExtraction):
            return semeval(records, folder / "semeval2010_task8_scorer-v1.2.pl", Path(scratch))
        if isinstance(task, QuestionAnswering):
            name = {"squad": "evaluate-v2.0.py", "cmrc": "cmrc2018_evaluate.py"}[task.scorer]
            return answers(records, task.scorer, folder / name, Path(scratch))
    return {}


def seqeval(records: Sequence[dict[str, Any]]) -> dict[str, Pair]:
    """F1 of spans; a word without a tag of its own counts as O."""
    from seqeval.metrics import f1_score

    true = [list(record["label"]) for record in records]
    found = [[word["tag"] or "O" for word in record["prediction"]] for record in records]
    return {"seqeval": (f"{span_scores(true, found)[0]['f1']:.10f}", f"{f1_score(true, found):.10f}")}


def semeval(records: Sequence[dict[str, Any]], script: Path, scratch: Path) -> dict[str, Pair]:
    """Macro-F1 of relations in percent."""
    if not script.exists():
        return {}
    for name in ("label", "prediction"):
        lines = [f"{number}\t{record[name]}\n" for number, record in enumerate(records, start=1)]
        (scratch / name).write_text("".join(lines), encoding="utf-8")
    run = ["perl", str(script), str(scratch / "prediction"), str(scratch / "label")]
    output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    official = re.search(r"macro-averaged F1 = ([\d.]+)%", output)
    assert official is not None, output
    scores, _ = relation_scores([record["label"] for record in records], [record["prediction"] for record in records])
    return {script.name: (f"{100 * scores['macro_f1']:.2f}", official[1])}


def answers(records: Sequence[dict[str, Any]], scorer: Any, script: Path, scratch: Path) -> dict[str, Pair]:
    """Exact match and F1 of answers in percent."""
    if not script.exists():
        return {}
    questions = [
        {
            "paragraphs": [
                {
                    "context": record["text"],
                    "qas": [
                        {
                            "id": str(number),
                            "question": record["pair"],
                            "answers": [{"text": text, "answer_start": 0} for text in record["label"]],
                        }
                    ],
                }
            ]
        }
        for number, record in enumerate(records)
    ]
    (scratch / "data").write_text(json.dumps({"data": questions, "version": "2"}), encoding="utf-8")
    predictions = {str(number): record["prediction"] for number, record in enumerate(records)}
    (scratch / "predictions").write_text(json.dumps(predictions), encoding="utf-8")
    run = [sys.executable, str(script), str(scratch / "data"), str(scratch / "predictions")]
    official = json.loads(subprocess.run(run, capture_output=True, text=True, check=True).stdout)
    exact, f1 = ("exact", "f1") if scorer == "squad" else ("EM", "F1")
    found = [answer_scores(record["label"], record["prediction"], scorer) for record in records]
    own = [100 * sum(each) / len(found) for each in zip(*found, strict=True)]
    both = [float(official[exact]), float(official[f1])]
    return {script.name: (f"{own[0]:.3f} / {own[1]:.3f}", f"{both[0]:.3f} / {both[1]:.3f}")}
