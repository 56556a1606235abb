"""The W&B run of a comparison, read back from its offline files."""

import json

import wandb

from ssl_nlp.tracking import WandbSettings, log_comparison
from tests.test_tracking import records


def test_a_comparison_is_a_run_with_a_table_and_the_report(tmp_path):
    report, table = tmp_path / "report.html", tmp_path / "comparison.csv"
    report.write_text("<p>the report</p>")
    table.write_text("row,mean\n")
    rows = [["MaskedLM", 0.5, None], ["TF-IDF", 0.4, 2.0]]
    settings = WandbSettings(mode="offline", group="of one run", tags=["mine"])
    columns, summary = ["method", "k-NN", "bits"], ["SimCLR is best.", "Nothing beats counting words."]
    log_comparison(settings, "my comparison", columns, rows, summary, [report, table], tmp_path)
    wandb.teardown()  # its service writes the end of the file when it ends
    [path] = tmp_path.glob("wandb/offline-run-*/*.wandb")
    history, last, artifacts, run = {}, {}, {}, None
    for record in records(path):
        run = record.run if record.HasField("run") else run
        history |= {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        last |= {item.key: json.loads(item.value_json) for item in record.summary.update}
        if record.HasField("artifact"):
            artifacts[record.artifact.name] = record.artifact
        artifact = record.request.log_artifact.artifact
        if artifact.name:
            artifacts[artifact.name] = artifact
    assert run is not None
    assert (run.run_group, run.job_type, run.display_name) == (
        "my comparison",
        "comparison",
        "my comparison-comparison",
    )
    assert list(run.tags) == ["mine"]
    shown = json.loads((path.parent / "files" / history["comparison.path"]).read_text())
    assert (shown["columns"], shown["data"]) == (["method", "k-NN", "bits"], rows)
    assert last["in_short"] == "\n".join(summary)
    logged = artifacts["my-comparison"]
    assert logged.type == "report"
    assert {entry.path for entry in logged.manifest.contents} == {"report.html", "comparison.csv"}


def test_where_it_is_disabled_nothing_is_left(tmp_path):
    log_comparison(WandbSettings(mode="disabled"), "mine", ["method"], [["a"]], [], [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_comparison_may_be_called_anything(tmp_path):
    log_comparison(WandbSettings(mode="offline"), "Vergleich ä", ["method"], [["a"]], [], [], tmp_path)
    assert list(tmp_path.glob("wandb/offline-run-*"))
    wandb.teardown()
