"""Elastic weight consolidation against autograd, brute force, and minima known in closed form."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.tasks import Classification
from ssl_nlp.training.callbacks import ElasticWeights
from ssl_nlp.training.callbacks.elastic_weights import mean_squared_gradients
from tests.data.labelled import Labelled, module


class Point(nn.Module):
    """A model that is its parameters."""

    def __init__(self, values):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(values, dtype=torch.float64))


def consolidated(strength=3.0, **settings):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
    callback = ElasticWeights(strength, **settings)
    for _ in range(2):
        information = {name: torch.rand_like(parameter) for name, parameter in model.named_parameters()}
        callback.consolidate(model, information)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
    return model, callback


def test_the_gradient_that_is_added_is_that_of_the_quadratic_form():
    model, callback = consolidated()
    inputs = torch.randn(5, 3, dtype=torch.float64)
    expected = torch.autograd.grad(model(inputs).square().sum() + callback.penalty(model), list(model.parameters()))
    model(inputs).square().sum().backward()
    callback.on_before_optimizer_step(None, model, None)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_the_penalty_is_that_of_the_paper():
    model, callback = consolidated(strength=3.0)
    expected = 0.0
    for name, parameter in model.named_parameters():
        columns = (parameter, callback.precision[name], callback.anchor[name])
        for weight, fisher, anchor in zip(*(column.flatten().tolist() for column in columns), strict=True):
            expected += 3.0 / 2 * fisher * (weight - anchor) ** 2
    assert callback.penalty(model).item() == pytest.approx(expected)


def test_the_information_is_decayed_with_each_part():
    model = Point([1.0, 2.0])
    callback = ElasticWeights(decay=0.5)
    for value in (4.0, 1.0):
        callback.consolidate(model, {"weight": torch.full((2,), value, dtype=torch.float64)})
    assert callback.precision["weight"].tolist() == [3.0, 3.0]


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_quadratic_losses_one_after_the_other_end_where_their_sum_is_smallest(parts):
    """Losses 1/2 h_k (w - m_k)^2: each part is minimised exactly, with the penalty of the earlier ones."""
    random = torch.Generator().manual_seed(parts)
    curvatures = torch.rand(parts, 4, generator=random, dtype=torch.float64) + 0.1
    minima = torch.randn(parts, 4, generator=random, dtype=torch.float64)
    model, callback = Point([0.0] * 4), ElasticWeights(strength=1.0)
    for curvature, minimum in zip(curvatures, minima, strict=True):
        optimizer = torch.optim.LBFGS(model.parameters(), tolerance_grad=1e-14, tolerance_change=0, max_iter=100)

        def loss(curvature=curvature, minimum=minimum, optimizer=optimizer):
            optimizer.zero_grad()
            own = (curvature * (model.weight - minimum) ** 2).sum() / 2
            own.backward()
            if callback.precision:
                callback.on_before_optimizer_step(None, model, optimizer)
                own = own + callback.penalty(model)
            return own

        optimizer.step(loss)
        callback.consolidate(model, {"weight": curvature})
    torch.testing.assert_close(model.weight.data, (curvatures * minima).sum(0) / curvatures.sum(0))


def test_mean_squared_gradients_are_those_of_single_losses():
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(3, 4), torch.randn(6, 3), torch.randint(4, (6,))
    found = mean_squared_gradients(
        (F.cross_entropy(model(inputs[i]), targets[i]) for i in range(6)), dict(model.named_parameters())
    )
    expected = torch.zeros(4, 3)
    for i in range(6):  # the gradient of the weights in closed form
        error = torch.softmax(model(inputs[i]), 0) - F.one_hot(targets[i], 4)
        expected += torch.outer(error, inputs[i]).detach() ** 2 / 6
    torch.testing.assert_close(found["weight"], expected)
    assert model.weight.grad is None


@pytest.fixture(scope="module")
def task():
    data = module("class", Labelled("class", label=lambda text: "abc"[len(text) % 3]), unit="text")
    torch.manual_seed(0)
    task = Classification(Transformer(size=None, dim=16, layers=1, heads=2, max_length=64), classes=["a", "b", "c"])
    task.connect(data.tokenizer)
    rows = data.maker.rows(data.store("train"), data.tokenizer, 64)
    return task, [rows[[i]] for i in range(5)]


def test_the_fisher_information_of_drawn_labels_approaches_the_sum_over_all_labels(task):
    """E over labels of the squared gradient, by brute force, against many draws."""
    task, rows = task
    expected = {name: torch.zeros_like(p) for name, p in task.named_parameters()}
    for row in rows:
        shares = torch.softmax(task.outputs(row).detach(), -1)[0]
        for label, share in enumerate(shares):
            task.zero_grad()
            (-torch.log_softmax(task.outputs(row), -1)[0, label]).backward()
            for name, parameter in task.named_parameters():
                if parameter.grad is not None:
                    expected[name] += share * parameter.grad**2 / len(rows)
    task.zero_grad()
    callback = ElasticWeights(rows=5, fisher="model")
    found = callback.information(task, rows * 200, 0)
    name = "head.classifier.weight"
    torch.testing.assert_close(found[name], expected[name], rtol=0.25, atol=1e-4)
    assert torch.equal(found[name], callback.information(task, rows * 200, 0)[name])  # the draws have a seed


def test_the_empirical_one_takes_the_labels_of_the_data(task):
    task, rows = task
    losses = [task.loss_of(task.outputs(row), row).mean() for row in rows]
    expected = mean_squared_gradients(losses, dict(task.named_parameters()))
    found = ElasticWeights(fisher="empirical").information(task, rows, 0)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_task_without_logits_for_each_label_is_told_to_take_those_of_the_data(task):
    task, rows = task
    outputs = type("Paired", (Classification,), {"outputs": lambda self, batch: (1, 2)})
    paired = outputs(task.encoder, classes=["a", "b", "c"])
    with pytest.raises(UserError, match="Paired has no logits for each label to draw labels from: set fisher to"):
        ElasticWeights().information(paired, rows, 0)


def test_settings_that_make_no_sense_are_refused_together():
    with pytest.raises(UserError, match="strength must be 0 or more, not -1.0; rows must be 1 or more, not 0; decay"):
        ElasticWeights(strength=-1.0, rows=0, decay=0.0)
