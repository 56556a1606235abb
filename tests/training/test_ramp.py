import math

import pytest

from ssl_nlp.encoders import Transformer
from ssl_nlp.errors import UserError
from ssl_nlp.methods import MaskedDiffusion
from ssl_nlp.training import Optimization, Ramp
from tests.training.small_data import small_data, small_trainer


def test_it_goes_straight_from_one_value_to_the_other_and_stays_there():
    ramp = Ramp(0.3, 0.15, steps=3)
    assert [ramp.at(step, math.inf) for step in range(5)] == pytest.approx([0.3, 0.25, 0.2, 0.15, 0.15])


def test_a_fraction_is_a_share_of_all_steps_and_one_step_is_not_all_of_them():
    assert Ramp(1.0, 0.0, steps=0.5).at(5, total_steps=20) == 0.5
    assert Ramp(1.0, 0.0).at(5, total_steps=20) == 0.75
    assert Ramp(1.0, 0.0, steps=1).at(1, total_steps=20) == 0.0


def test_a_number_is_a_ramp_that_stays_level():
    level = Ramp.of(0.4, "rate")
    assert {level.at(step, math.inf) for step in range(4)} == {0.4}
    assert Ramp.of(level, "rate") is level


@pytest.mark.parametrize(
    "ramp", [Ramp(0.9, 0.1, steps=7), Ramp(0.2, 0.8, steps=0.33), Ramp(0, 1, 0.001), Ramp.of(0.3, "rate")]
)
def test_sums_are_those_of_a_loop(ramp):
    for step in range(25):
        assert ramp.sum_before(step, 20) == pytest.approx(sum(ramp.at(n, 20) for n in range(step)), abs=1e-12)


def test_the_values_are_named_as_they_are_set():
    assert Ramp.of(0.4, "rate").ends("rate") == {"rate": 0.4}
    assert Ramp(0.3, 1.0).ends("rate") == {"rate.start": 0.3, "rate.end": 1.0}
    assert [*Ramp.of(math.nan, "rate").ends("rate")] == ["rate"]


def test_bad_settings_are_refused_in_one_line():
    for steps in (0, -3, 0.0, 1.5, -0.5, math.nan):
        with pytest.raises(
            UserError, match=rf"^rate\.steps must be a whole number of steps, .* a share .*, not {steps}$"
        ):
            Ramp.of(Ramp(0.0, 1.0, steps), "rate")
    for setting in ("a", None, True, {"start": 0.3, "end": 1.0}, [0.3, 1.0]):
        with pytest.raises(UserError, match=r"^rate must be a number, or Ramp\(start, end, steps\), not "):
            Ramp.of(setting, "rate")
    share = Ramp(0.0, 1.0, steps=0.5)
    share.check("rate", 20)
    Ramp(0.0, 1.0, steps=10).check("rate", math.inf)
    with pytest.raises(UserError, match=r"rate changes over a share of all steps \(0.5\), .* of steps in rate.steps"):
        share.check("rate", math.inf)


def test_a_share_of_an_unknown_number_of_steps_is_refused_before_the_first_one(tmp_path):
    optimization = Optimization(warmup=0, schedule="constant")
    encoder = Transformer(size=None, dim=16, layers=1, heads=2, max_length=64)
    method = MaskedDiffusion(encoder, max_masking_rate=Ramp(0.3, 1.0, steps=0.5), optimization=optimization)
    trainer = small_trainer(default_root_dir=tmp_path, max_steps=-1, max_epochs=-1, max_time="00:00:10:00")
    with pytest.raises(UserError, match="max_masking_rate changes over a share of all steps"):
        trainer.fit(method, small_data(unit="block"))
    assert trainer.global_step == 0
