from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from ssl_nlp.errors import UserError
from ssl_nlp.evaluation import FewLabelProbe, Labelled, LabelledSplits, LinearProbe, NearestNeighbours
from ssl_nlp.evaluation.classification import ALLOWED, POWERS, fit_probe, gradients_left, values_at_edge
from ssl_nlp.evaluation.result import Result, statistic_of
from ssl_nlp.evaluation.vectors import to_tensor
from tests.evaluation.vectors import Given, Hashed

CLASSES = ["ant", "bee", "cow"]


def part(name, number, weights=(5, 3, 2)):
    labels = np.random.default_rng(len(name)).choice(CLASSES, number, p=np.array(weights) / sum(weights))
    return Labelled([f"{label} {name} {i}" for i, label in enumerate(labels)], labels.tolist())


DATA = LabelledSplits("data", part("train", 150), part("val", 60), part("tests", 90))


@pytest.fixture(scope="module")
def arrays():
    embedder = Hashed()
    return [(embedder.embed(p.texts).double().numpy(), np.array(p.labels)) for p in (DATA.train, DATA.valid, DATA.test)]


def check(result, predicted, gold):
    hits = predicted == gold
    assert result.primary == pytest.approx(hits.mean())
    assert result.metrics["macro_f1"] == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert (result.items == hits).all()
    matrix = np.array(result.details["confusion_matrix"])
    for i, name in enumerate(CLASSES):
        for j, other in enumerate(CLASSES):
            assert matrix[i, j] == ((gold == name) & (predicted == other)).sum()
        numbers = result.details["by_class"][name]
        assert numbers["precision"] == pytest.approx(matrix[i, i] / max(matrix[:, i].sum(), 1))
        assert numbers["recall"] == pytest.approx(matrix[i, i] / matrix[i].sum())


def test_neighbours_are_those_of_scikit_learn_and_of_a_loop(arrays):
    (x, y), _, (x_test, y_test) = arrays
    by_hand = KNeighborsClassifier(20, metric="cosine").fit(x, y).predict(x_test)
    voted = []
    for row in x_test:
        cosine = [row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in x]
        nearest = [y[i] for i in sorted(range(len(x)), key=lambda i: -cosine[i])[:20]]
        voted.append(max(CLASSES, key=nearest.count))
    result = NearestNeighbours(DATA)(Hashed())
    check(result, by_hand, y_test)
    check(result, np.array(voted), y_test)
    assert 0.5 < result.primary < 1  # the task is neither trivial nor hopeless


def test_the_linear_probe_is_scikit_learn_by_hand_with_c_chosen_on_the_valid_part(arrays):
    (x, y), (x_valid, y_valid), (x_test, y_test) = arrays
    scaler = StandardScaler().fit(x)
    scores = {}
    for power in POWERS:
        model = LogisticRegression(C=10.0**power / x.shape[1], max_iter=10_000, tol=1e-8)
        model.fit(scaler.transform(x), y)
        right = model.score(scaler.transform(x_valid), y_valid)
        scores[10.0**power] = (right, model.predict(scaler.transform(x_test)))
    best = max(scores, key=lambda strength: scores[strength][0])
    assert len({right for right, _ in scores.values()}) > 1  # there is something to choose
    result = LinearProbe(DATA)(Hashed())
    check(result, scores[best][1], y_test)
    assert result.details["C"] == pytest.approx(best / x.shape[1])


def test_the_test_part_decides_nothing():
    """Another test part has another number, but the same classifier."""
    other = LabelledSplits("other", DATA.train, DATA.valid, part("others", 40))
    first, second = LinearProbe(DATA)(Hashed()), LinearProbe(other)(Hashed())
    assert first.details["C"] == second.details["C"]
    assert first.primary != second.primary


def test_few_labels_are_drawn_by_class_and_averaged():
    embedder = Hashed()
    few, many = FewLabelProbe(DATA, 4)(embedder), FewLabelProbe(DATA, 1000)(embedder)
    draws = [draw["accuracy"] for draw in few.details["draws"]]
    assert len(set(draws)) > 1
    assert few.primary == pytest.approx(np.mean(draws)) == pytest.approx(statistic_of(few.items, few.statistic))
    assert few.primary < many.primary
    assert many.primary == pytest.approx(LinearProbe(DATA)(Hashed()).primary)  # all labels of all classes
    assert many.metrics["accuracy_std"] == 0


def test_few_labels_see_that_many_of_each_class(monkeypatch):
    seen = []

    def fit(x, y, *rest):
        seen.append(np.unique(y, return_counts=True)[1].tolist())
        return fit_probe(x, y, *rest)

    monkeypatch.setattr("ssl_nlp.evaluation.classification.fit_probe", fit)
    FewLabelProbe(DATA, 8)(Hashed())
    assert seen == [[8, 8, 8]] * 3


def test_majority_names_the_most_frequent_training_class():
    result = LinearProbe(DATA).majority()
    check(result, np.full(90, "ant"), np.array(DATA.test.labels))
    assert result.details["by_class"]["bee"] == {
        "precision": 0.0,
        "recall": 0.0,
        "support": DATA.test.labels.count("bee"),
    }


def test_sparse_and_dense_embeddings_agree_where_nothing_is_scaled():
    class Sparse(Hashed):
        def embed(self, texts):
            return to_tensor(csr_matrix(super().embed(texts).numpy()))

    dense, sparse = (NearestNeighbours(DATA)(embedder) for embedder in (Hashed(), Sparse()))
    assert dense.metrics == pytest.approx(sparse.metrics)
    assert LinearProbe(DATA)(Sparse()).primary > LinearProbe(DATA).majority().primary


def test_sparse_features_have_the_probe_that_dense_ones_would_have(arrays):
    """Not scaled, that is: against scikit-learn's other solver, run to the end."""
    (x, y), (x_valid, y_valid), _ = arrays
    probe = fit_probe(csr_matrix(x), y, csr_matrix(x_valid), y_valid).regression
    exact = LogisticRegression(C=probe.C, max_iter=10_000, tol=1e-10).fit(x, y)
    assert probe.C in [pytest.approx(10.0**power / np.square(x).sum(axis=1).mean()) for power in ALLOWED]
    np.testing.assert_allclose(probe.coef_, exact.coef_, atol=1e-6)


def test_probes_have_converged_to_the_optimum(arrays):
    """Also where directions of very different lengths and a weak penalty make it slow."""
    (x, y), (x_valid, y_valid), _ = arrays
    x, x_valid = (np.hstack([part, part[:, :4] + 0.01 * part[:, 4:8]]) for part in (x, x_valid))
    probe = fit_probe(x, y, x_valid, y_valid)
    scaled = probe.scaler.transform(x)
    assert probe.gradient < 1e-8
    exact = LogisticRegression(C=probe.regression.C, max_iter=100_000, tol=1e-10).fit(scaled, y)
    np.testing.assert_allclose(probe.regression.coef_, exact.coef_, atol=1e-6)
    np.testing.assert_allclose(probe.regression.intercept_, exact.intercept_, atol=1e-6)


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_gradient_is_that_of_the_mean_loss_with_the_penalty(classes, kind, arrays, monkeypatch):
    """The oracle: central differences of the loss, where the fit has not converged."""
    monkeypatch.setattr("ssl_nlp.evaluation.classification.ITERATIONS", 1)
    (x, y), _, _ = arrays
    x, y = x[np.isin(y, np.unique(y)[:classes])], y[np.isin(y, np.unique(y)[:classes])]
    probe = fit_probe(kind(x), y, kind(x), y)
    x = x if probe.scaler is None else probe.scaler.transform(x)
    regression, steps = probe.regression, []
    for weights in (regression.coef_, regression.intercept_):
        for place in np.ndindex(weights.shape):
            kept, losses = weights[place], []
            for step in (1e-5, -1e-5):
                weights[place] = kept + step
                penalty = np.square(regression.coef_).sum() / (2 * regression.C * len(y))
                losses.append(log_loss(y, regression.predict_proba(x)) + penalty)
            weights[place] = kept
            steps.append((losses[0] - losses[1]) / 2e-5)
    assert probe.gradient == pytest.approx(np.abs(steps).max(), rel=1e-3, abs=1e-10)


def test_a_probe_that_has_not_converged_says_so(monkeypatch):
    probe, few = LinearProbe(DATA)(Hashed()), FewLabelProbe(DATA, 8)(Hashed())
    assert not gradients_left(probe) and not gradients_left(few)
    monkeypatch.setattr("ssl_nlp.evaluation.classification.ITERATIONS", 1)
    probe, few = LinearProbe(DATA)(Hashed()), FewLabelProbe(DATA, 8)(Hashed())
    assert gradients_left(probe) == [probe.details["gradient"]] and probe.details["gradient"] > 1e-8
    assert gradients_left(few) == few.details["gradient"] and len(few.details["gradient"]) == len(few.details["draws"])
    assert not gradients_left(Result("accuracy", {"accuracy": 1.0}))


@pytest.mark.parametrize("weaker", [True, False])
def test_the_grid_is_widened_until_its_edge_is_not_best(weaker):
    """Classes that differ where texts hardly do need a weak penalty; few texts with many directions a strong one."""
    train, valid = slice(60), slice(60, 2060)
    probe = fit_probe(*(array[part] for part in (train, valid) for array in two_classes(weaker)))
    power = np.log10(probe.regression.C * probe.scaler.n_features_in_)
    assert not probe.at_edge and (power > max(POWERS) if weaker else power < min(POWERS))


def two_classes(weaker):
    rng = np.random.default_rng(0)
    y = np.arange(2060) % 2
    if weaker:
        shared, own = rng.normal(size=(2, 2060))
        return np.stack([shared, shared + 0.01 * (2 * y - 1 + 0.3 * own)], axis=1), y
    return 0.25 * (2 * y - 1)[:, None] + rng.normal(size=(2060, 50)), y


def test_a_probe_says_where_its_penalty_is_the_last_that_may_be_tried(monkeypatch):
    x, y = two_classes(weaker=True)
    monkeypatch.setattr("ssl_nlp.evaluation.classification.ALLOWED", POWERS)
    assert fit_probe(x[:60], y[:60], x[60:], y[60:]).at_edge
    few = FewLabelProbe(DATA, 8)(Hashed())
    assert values_at_edge(few) == few.details["C"] and len(few.details["C"]) == len(few.details["draws"])
    monkeypatch.undo()
    result = LinearProbe(DATA)(Hashed())
    assert not result.details["C_at_edge"] and not values_at_edge(result)
    assert values_at_edge(replace(result, details=result.details | {"C_at_edge": True})) == [result.details["C"]]
    assert not values_at_edge(Result("accuracy", {"accuracy": 1.0}))


def test_pairs_are_told_apart_by_how_their_texts_differ():
    """The class is whether the two texts begin alike, which neither of them tells alone."""
    draw = np.random.default_rng(0)

    def pairs(name, number):
        first, second = (draw.choice(CLASSES[:2], number) for _ in range(2))
        texts = [[f"{word} {name} {side} {i}" for i, word in enumerate(s)] for side, s in ((1, first), (2, second))]
        return Labelled(texts[0], np.where(first == second, "same", "other").tolist(), texts[1])

    data = LabelledSplits("pairs", pairs("a", 400), pairs("b", 100), pairs("c", 200))
    assert LinearProbe(data)(Hashed()).primary > 0.7
    assert len(data.texts) == 1400


def test_a_class_that_training_never_saw_is_never_right():
    test = Labelled([*DATA.test.texts[:5], "dog tests 1"], [*DATA.test.labels[:5], "dog"])
    result = NearestNeighbours(LabelledSplits("new", DATA.train, DATA.valid, test))(Hashed())
    assert result.items.tolist()[-1] == 0
    assert np.sum(result.details["confusion_matrix"]) == 5


def test_bad_data_is_refused():
    with pytest.raises(UserError, match="only one class"):
        LabelledSplits("x", Labelled(["a", "b"], ["k", "k"]), DATA.valid, DATA.test)
    with pytest.raises(UserError, match="the valid part of x is empty"):
        LabelledSplits("x", DATA.train, Labelled([], []), DATA.test)
    with pytest.raises(UserError, match=r"x: no label of the test part \(such as 'elsewhere'\) is a training label"):
        LabelledSplits("x", DATA.train, DATA.valid, Labelled(["a"], ["elsewhere"]))
    broken = Given({text: np.full(4, np.nan) for text in DATA.texts})
    with pytest.raises(UserError, match="not all finite"):
        LinearProbe(DATA)(broken)
