import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from ssl_nlp.evaluation.generated_text import score_texts
from ssl_nlp.evaluation.result import statistic_of

OUTPUTS = ["The dog sees a cat.", "It's an under_scored test, no. 7!", "", "a b c"]
REFERENCES = ["The cat sees the dog.", "It's a test with under_score no. 7", "nothing", "d e f"]


def test_scores_are_those_of_the_libraries():
    result = score_texts(OUTPUTS, REFERENCES)
    assert result.primary == sacrebleu.corpus_bleu(OUTPUTS, [REFERENCES]).score
    assert result.metrics["chrf"] == sacrebleu.corpus_chrf(OUTPUTS, [REFERENCES]).score
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])
    rows = [scorer.score(reference, output) for reference, output in zip(REFERENCES, OUTPUTS, strict=True)]
    for name in ("rouge1", "rouge2", "rougeL"):
        assert result.metrics[name.lower()] == pytest.approx(100 * sum(row[name].fmeasure for row in rows) / len(rows))
    assert "tok:13a" in result.details["bleu"] and result.details["texts"] == 4


def test_the_items_of_any_texts_give_their_bleu():
    """So that a bootstrap can resample texts: also short ones, and such as match nothing, which BLEU smooths."""
    result = score_texts(OUTPUTS, REFERENCES)
    assert result.items.shape == (4, 10) and result.statistic == "bleu"
    for rows in ([0, 1, 2, 3], [0], [1], [2], [3], [1, 1, 0], [2, 3], [0, 3, 3]):
        expected = sacrebleu.corpus_bleu([OUTPUTS[i] for i in rows], [[REFERENCES[i] for i in rows]]).score
        assert statistic_of(result.items[rows], "bleu") == pytest.approx(expected, abs=1e-9)


def test_chinese_counts_by_characters_and_letters_with_marks_belong_to_words():
    result = score_texts(["今天天气好。", "明天 GPT4 见"], ["今天天气很好。", "明天 GPT4 再见"])
    # 今天天气好 of 今天天气很好: F1 = 2 * 5 / (5 + 6); 明天 gpt4 见 of 明天 gpt4 再见: 2 * 4 / (4 + 5).
    assert result.metrics["rouge1"] == result.metrics["rougel"] == pytest.approx(100 * (10 / 11 + 8 / 9) / 2)
    assert "tok:zh" in result.details["bleu"] and result.metrics["bleu"] > 0
    assert score_texts(["Der Hund hört"], ["Die Katze hört"]).metrics["rouge1"] == pytest.approx(100 / 3)
