from ssl_nlp.runs.metrics_csv import MetricsCSV, read_metrics, read_numbers


def test_metrics_of_a_step_share_a_row_and_new_columns_join(tmp_path):
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 2.0}, 10)
    logger.log_metrics({"val/loss": 3.0, "epoch": 0}, 10)
    logger.log_metrics({"train/loss": 1.0}, 20)
    assert read_metrics(tmp_path / "metrics.csv") == [
        {"step": "10", "train/loss": "2.0", "val/loss": "3.0"},
        {"step": "20", "train/loss": "1.0", "val/loss": ""},
    ]
    assert read_numbers(tmp_path / "metrics.csv") == [
        {"step": 10, "train/loss": 2, "val/loss": 3},
        {"step": 20, "train/loss": 1},
    ]


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path):
    logger = MetricsCSV(tmp_path)
    for step in (10, 20, 30):
        logger.log_metrics({"train/loss": float(step)}, step)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("40")  # a row that was being written
    resumed = MetricsCSV(tmp_path, resume_step=20)
    resumed.log_metrics({"train/loss": 31.0}, 30)
    assert [(row["step"], row["train/loss"]) for row in read_metrics(tmp_path / "metrics.csv")] == [
        ("10", "10.0"),
        ("20", "20.0"),
        ("30", "31.0"),
    ]


def test_a_new_run_begins_a_new_file(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,train/loss\n10,1.0\n")
    logger = MetricsCSV(tmp_path)
    logger.log_metrics({"train/loss": 5.0}, 1)
    assert read_metrics(tmp_path / "metrics.csv") == [{"step": "1", "train/loss": "5.0"}]
