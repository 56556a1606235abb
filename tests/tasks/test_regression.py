"""Regression of scores of texts and pairs."""

import numpy as np
import pytest
import torch
from scipy import stats

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation.result import statistic_of
from ssl_nlp.tasks import Regression
from ssl_nlp.training import Optimization
from tests.tasks.corpora import Topics, connected, fitted, tiny, topics


def regression(**settings):
    return Regression(tiny(), optimization=Optimization(learning_rate=0.01), **settings)


@pytest.mark.parametrize("settings", [{}, {"range": (-1.0, 10.0)}])
def test_it_learns_scores_and_reports_their_correlations(settings, tmp_path):
    task, data = regression(**settings), topics("score")
    fitted(task, data, tmp_path, steps=200)
    trainer = fitted(task, data, tmp_path, steps=1, limit_val_batches=1.0)
    [scores] = trainer.validate(task, datamodule=data, verbose=False)
    documents = [*Topics("score").documents("valid")]
    predicted = task.predict([document.text for document in documents])
    gold = [document.label for document in documents]
    assert scores["val/spearman"] == pytest.approx(stats.spearmanr(predicted, gold).statistic, abs=1e-6)
    assert scores["val/pearson"] == pytest.approx(stats.pearsonr(predicted, gold).statistic, abs=1e-6)
    assert scores["val/loss"] == pytest.approx(np.square(np.subtract(predicted, gold)).mean(), abs=1e-4)
    assert scores["val/spearman"] > 0.9
    assert statistic_of(task.last_result.items, task.last_result.statistic) == task.last_result.primary
    if settings:
        assert min(predicted) > -1.0 and max(predicted) < 10.0


def test_it_reads_pairs(tmp_path):
    task = regression()
    fitted(task, topics("score", pairs=True), tmp_path, steps=150)
    documents = [*Topics("score", pairs=True).documents("valid")]
    predicted = task.predict([(document.text, document.pair) for document in documents])
    assert np.corrcoef(predicted, [document.label for document in documents])[0, 1] > 0.9


def test_texts_without_a_score_do_not_count():
    task = connected(regression(), topics("score"))
    batch = next(iter(topics("score").val_dataloader()))
    batch.labels[0] = torch.nan
    loss = task.loss(batch).terms["squared_error"]
    assert loss.targets == 7
    torch.testing.assert_close(loss.total, (task.outputs(batch) - batch.labels)[1:].square().sum())
    assert len(task.result(task.items(task.outputs(batch), batch)).items) == 7


def test_a_range_has_a_low_and_a_high_end():
    with pytest.raises(UserError, match="range must be a low and a high score"):
        regression(range=(5.0, 0.0))
