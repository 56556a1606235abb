import numpy as np
import pytest
import torch

from ssl_nlp.evaluation.mteb import MtebModel
from tests.evaluation.vectors import Hashed

TEXTS = [f"w{i % 3} text {i}" for i in range(7)]


def test_texts_come_in_batches_and_leave_in_order():
    model = MtebModel(Hashed(), "mine")
    batches = [{"text": TEXTS[:4]}, {"text": TEXTS[4:]}]
    embeddings = model.encode(batches, task_metadata=None, hf_split="test", hf_subset="default", batch_size=2)
    assert embeddings == pytest.approx(Hashed().embed(TEXTS).numpy())


def test_similarities_are_cosines():
    model = MtebModel(Hashed(), "mine")
    a, b = Hashed().embed(TEXTS[:3]), Hashed().embed(TEXTS[3:6])
    expected = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
    assert torch.allclose(model.similarity(a.numpy(), b), expected, atol=1e-6)
    assert torch.allclose(model.similarity_pairwise(a, b), expected.diagonal(), atol=1e-6)
    assert model.similarity(a[0], b).shape == (1, 3)


def test_mteb_takes_it_for_one_of_its_own():
    import mteb
    from mteb.mocks import mock_tasks as tasks
    from mteb.models import EncoderProtocol

    model = MtebModel(Hashed(), "mine", "abc")
    assert isinstance(model, EncoderProtocol)
    for task in (tasks.MockSTSTask(), tasks.MockClassificationTask(), tasks.MockRetrievalTask()):
        result = mteb.evaluate(model, task, cache=None, co2_tracker=False, show_progress_bar=False)
        assert (result.model_name, result.model_revision) == ("ssl_nlp/mine", "abc")
        assert np.isfinite(result.task_results[0].get_score())
