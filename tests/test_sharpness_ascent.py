"""Largest rises in balls and boxes against the exact maxima of quadratic losses, and the curvature's own numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from oracles import Quadratic, fingerprint, largest_in_ball, largest_in_box, random_quadratic
from scipy import stats

import landscape as ls
from landscape.derivatives import Derivatives
from landscape.sharpness import Settings, adversarial, compare, spectrum, summary
from landscape.sharpness.ascent import highest

HOW = {"starts": 3, "steps": 40, "seed": 0}


def problem(model, device="cpu") -> ls.Problem:
    return ls.Problem(model.to(device), lambda m, b: {"loss": m(b)}, [torch.zeros(2)])


def derivatives(model, device="cpu") -> Derivatives:
    return Derivatives(problem(model, device))


@pytest.mark.parametrize("rho", [0.05, 1.0])
def test_at_a_minimum_sam_sharpness_is_half_the_top_eigenvalue_times_rho_squared(rho, device):
    h, _ = random_quadratic(7, 0, 0.1)
    found = adversarial.sam(derivatives(Quadratic(h), device), rho, **HOW)
    assert found.value == pytest.approx(np.linalg.eigvalsh(h)[-1] * rho**2 / 2, rel=1e-4)
    assert (found.what.bound, found.at_least, found.n) == ("lower", True, 1)
    assert math.isnan(found.low)
    assert "3 starts end at" in found.note


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("smallest", [0.1, -3.0])
@pytest.mark.parametrize("rho", [0.05, 0.5, 5.0])
def test_sam_sharpness_is_the_top_of_the_ball_and_never_more(seed, smallest, rho):
    """With a slope, at saddles, and where the slope hardly counts."""
    h, g = random_quadratic(6, seed, smallest)
    top = largest_in_ball(h, g, rho)
    found = adversarial.sam(derivatives(Quadratic(h, g)), rho, **HOW).value
    assert found <= top * (1 + 1e-9)
    assert found == pytest.approx(top, rel=1e-3)


def test_a_top_inside_the_ball_is_found():
    h, g = random_quadratic(4, 3, -2.0)
    h = h - 4 * np.eye(4)  # curved down in every direction
    top = largest_in_ball(h, g, 10.0)
    e = np.linalg.solve(-h, g)
    assert top == pytest.approx(g @ e / 2)
    assert adversarial.sam(derivatives(Quadratic(h, g)), 10.0, **HOW).value == pytest.approx(top, rel=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_adaptive_sharpness_is_that_of_the_ball_in_shares_of_the_weights(seed):
    h, g = random_quadratic(6, seed, 0.1)
    w = np.random.default_rng(seed + 100).standard_normal(6) * 3
    w[2] = 0.0  # stays put
    scale = np.abs(w)
    top = largest_in_ball(scale[:, None] * h * scale, scale * g, 0.5)
    found = adversarial.adaptive(derivatives(Quadratic(h, g, w)), 0.5, **HOW)
    assert found.value <= top * (1 + 1e-9)
    assert found.value == pytest.approx(top, rel=1e-3)


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_epsilon_sharpness_is_the_highest_corner_of_the_box_in_per_cent_of_one_plus_the_loss(seed, coupled):
    h, g = random_quadratic(6, seed, 0.1)
    h = h if coupled else np.diag(np.diag(h))
    w = np.random.default_rng(seed + 100).standard_normal(6) * 3
    top = 100 * largest_in_box(h, g, 0.1 * (np.abs(w) + 1)) / 4
    found = adversarial.keskar(derivatives(Quadratic(h, g, w, loss=3.0)), 0.1, starts=8, steps=10, seed=0)
    assert found.value <= top * (1 + 1e-9)
    assert found.value == pytest.approx(top, rel=0.02 if coupled else 1e-9)  # a corner may be higher than all beside it


def test_each_start_is_a_lower_bound_and_one_start_goes_along_the_gradient():
    h, g = random_quadratic(6, 0, 0.1)
    made = derivatives(Quadratic(h, g))
    ones = torch.ones(6, dtype=torch.float64)
    rises = highest(made, ones, 0.5, "l2", starts=5, steps=2, seed=1)
    assert rises.shape == (5,)
    assert (rises <= largest_in_ball(h, g, 0.5) * (1 + 1e-9)).all()
    step = 0.5 * g / np.linalg.norm(g)
    alone = highest(made, ones, 0.5, "l2", starts=1, steps=0, seed=1)
    assert alone[0] == pytest.approx(g @ step + step @ h @ step / 2, rel=1e-12)


def test_random_starts_spend_nothing_on_weights_that_stay_put():
    h, _ = random_quadratic(6, 0, 0.1)
    scale = torch.tensor([2.0, 0, 0, 0, 0, 0], dtype=torch.float64)
    rises = highest(derivatives(Quadratic(h)), scale, 0.5, "l2", starts=3, steps=0, seed=1)
    np.testing.assert_allclose(rises, h[0, 0] * (2 * 0.5) ** 2 / 2, rtol=1e-9)


def test_the_copy_stands_where_it_stood_and_the_model_is_as_before():
    h, g = random_quadratic(6, 0, 0.1)
    model = Quadratic(h, g)
    before, made = fingerprint(model), derivatives(model)
    here = made.slope()
    adversarial.sam(made, 0.5, **HOW)
    assert made.slope().value == here.value
    assert fingerprint(model) == before


def test_a_flat_loss_has_no_rise():
    found = adversarial.sam(derivatives(Quadratic(np.zeros((3, 3)))), 0.5, **HOW)
    assert found.value == 0.0


@pytest.mark.parametrize("measure", [adversarial.sam, adversarial.adaptive, adversarial.keskar])
def test_at_a_maximum_the_weights_themselves_are_the_top_of_the_ball(measure):
    made = derivatives(Quadratic(-np.eye(3)))
    assert highest(made, torch.ones(3, dtype=torch.float64), 0.5, "l2", starts=2, steps=0, seed=0).max() < 0
    assert measure(made, 0.5, starts=2, steps=0, seed=0).value == 0.0


def test_a_rise_of_exactly_0_makes_a_comparison_a_plain_difference():
    none = problem(Quadratic(-np.eye(3))), problem(Quadratic(np.zeros((3, 3))))
    some = problem(Quadratic(2 * np.eye(3))), problem(Quadratic(3 * np.eye(3)))
    row = compare({"none": none, "some": some}, measures=["sam"], settings=Settings(rho=0.5))["sam"]
    assert row.groups[0].values == (0.0, 0.0)
    assert not row.log
    assert row.differences[0].scale == "difference"
    assert row.differences[0].value == pytest.approx((2 + 3) / 2 * 0.5**2 / 2, rel=1e-4)


def test_the_top_eigenvalue_is_that_of_the_dense_hessian_also_where_it_is_negative(device):
    for smallest, shift in ((-3.0, 0.0), (-3.0, -4.0)):
        h, g = random_quadratic(8, 2, smallest)
        h = h + shift * np.eye(8)
        found = summary(problem(Quadratic(h, g), device), measures=["top-eigenvalue"])["top-eigenvalue"]
        assert found.value == pytest.approx(np.linalg.eigvalsh(h)[-1], rel=1e-3)
        assert "within" in found.note
        assert not found.at_least


def test_the_trace_is_that_of_the_dense_hessian(device):
    h, g = random_quadratic(8, 2, -1.0)
    found = summary(problem(Quadratic(np.diag(np.diag(h)), g), device), measures=["trace"])["trace"]
    assert [found.value, found.low, found.high] == pytest.approx([np.trace(h)] * 3, rel=1e-6)  # each probe is exact
    found = summary(problem(Quadratic(h, g), device), measures=["trace"], seed=1)["trace"]
    assert found.low < np.trace(h) < found.high
    assert found.value == pytest.approx(found.samples.mean(), rel=1e-12)
    with pytest.warns(UserWarning, match="trace"):
        few = summary(
            problem(Quadratic(h, g), device), measures=["trace"], settings=Settings(products=24, trace_error=1e-3)
        )
    assert "not to the 0.1 % that was wanted" in few["trace"].note


def test_settings_are_what_the_numbers_are_taken_at():
    h, _ = random_quadratic(5, 0, 0.1)
    found = summary(
        problem(Quadratic(h)), measures=["sam", "keskar"], settings=Settings(rho=0.2, epsilon=0.01, starts=1, steps=80)
    )
    assert found["sam"].value == pytest.approx(3.0 * 0.2**2 / 2, rel=1e-3)
    assert found["sam"].name == "SAM sharpness at 0.2"
    assert found["keskar"].name == "epsilon-sharpness at 0.01"
    assert found["sam"].note == ""  # a single start
    for name, wrong in (("rho", 0.0), ("rises", (0.1, -1.0)), ("steps", 0)):
        with pytest.raises(ValueError, match=rf"{name} must be above 0\. Got"):
            Settings(**{name: wrong})
    with pytest.raises(ValueError, match=r"draws must be at least 2"):
        Settings(draws=1)


@pytest.mark.filterwarnings("ignore:the standard error")
def test_the_interval_of_a_trace_is_that_of_probes_that_are_skewed():
    """Hall's transformation (1992, equation 2.2) takes the ends of the interval to Student's quantiles."""
    v = np.exp(np.random.default_rng(0).normal(0, 1.5, 60))
    found = spectrum.trace(problem(Quadratic(np.outer(v, v))), "loss", 1e-6, 40, 0)
    n, x = found.n, found.samples
    skewness = stats.skew(x)
    assert skewness > 0.5

    def transformed(truth):
        t = (x.mean() - truth) / (x.std(ddof=1) / math.sqrt(n))
        cubic = t + skewness * t**2 / (3 * math.sqrt(n)) + skewness**2 * t**3 / (27 * n)
        return cubic + skewness / (6 * math.sqrt(n))

    quantile = stats.t.ppf(0.975, n - 1)
    assert [transformed(found.low), transformed(found.high)] == pytest.approx([quantile, -quantile], rel=1e-6)
    assert found.high - found.value > 1.1 * (found.value - found.low)  # Student's own has equal arms
    assert found.note == "not to the 0.0001 % that was wanted"


@pytest.mark.filterwarnings("ignore:the search")
def test_an_eigenvalue_that_is_nearly_found_has_its_residual_as_interval_and_another_is_left_out():
    h = np.diag(np.concatenate([np.linspace(0, 1, 59), [1.3]]))
    near = spectrum.top_eigenvalue(problem(Quadratic(h)), "loss", 6, 0)
    assert not near.at_least
    assert "not converged" in near.note
    assert 0 < near.high - near.value <= 0.1 * near.value
    assert near.high - near.value == pytest.approx(near.value - near.low)
    assert np.logical_and(near.low <= np.diag(h), np.diag(h) <= near.high).any()
    made = problem(Quadratic(h))
    settings = Settings(products=2, draws=2, starts=1, steps=1)
    with pytest.raises(ValueError, match=r"top eigenvalue must come within 10% of it\. Got .* after 2 products"):
        summary(made, measures=["top-eigenvalue"], settings=settings)
    assert "must come within 10% of it" in summary(made, n_directions=2, settings=settings).left_out["top-eigenvalue"]
