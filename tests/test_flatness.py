"""The flatness numbers of a minimum together: choosing, leaving out, printing, and their file."""

from __future__ import annotations

import math
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracles import fingerprint
from torch import nn

import landscape as ls
from landscape import describing, store, wholeness
from landscape.provenance import stamp
from landscape.sharpness import Flatness, Measure, Settings, summary
from landscape.sharpness.measure import Definition

QUICK = Settings(draws=3, steps=2, starts=1)
LINES = ("width-0.1", "width-1", "curvature", "noise-0.1", "noise-0.25")
OTHERS = ("pac-bayes", "pac-bayes-relative", "sam", "adaptive", "keskar", "top-eigenvalue", "trace")
AREAS = ("area-0.1", "area-1")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def objective(model, batch):
    inputs, labels = batch
    logits = model(inputs)
    return {
        "ce": F.cross_entropy(logits, labels, reduction="none"),
        "kd": F.kl_div(logits.log_softmax(1), torch.ones(3).to(logits) / 3, reduction="none").sum(1),
        "wrong": logits.argmax(1) != labels,
    }


@pytest.fixture
def problem(device) -> ls.Problem:
    torch.manual_seed(1)
    inputs, labels = 3 * torch.randn(40, 6), torch.randint(0, 3, (40,))
    return ls.Problem(
        network().to(device), objective, list(zip(inputs.split(16), labels.split(16), strict=True)), "held out"
    )


@pytest.fixture
def plane(problem) -> ls.Surface:
    return ls.evaluate(problem, ls.directions.random(problem.model, n=2), ls.Grid2D(x=(-1, 1, 21), y=(-1, 1, 21)))


def test_every_number_of_a_minimum_with_its_definition_and_provenance(problem):
    before = fingerprint(problem.model)
    found = summary(problem, n_directions=6, seed=3, settings=QUICK)
    assert fingerprint(problem.model) == before
    assert found.keys() == (*LINES, *OTHERS)
    assert found
    assert len(found) == 12
    assert found.left_out == {}
    for measure in found:
        assert found[measure.key] is measure
        assert measure.value > 0
        assert measure.what.text
        assert measure.what.source
        if measure.n >= 5:
            assert measure.low <= measure.value <= measure.high
    assert found.attrs["term"] == "ce"
    assert found.attrs["split"] == "held out"
    assert found.attrs["seed"] == 3
    assert found.attrs["n_directions"] == 6
    assert found.attrs["settings"]["draws"] == 3
    assert len(found.attrs["checkpoint_sha256"]) == 64
    assert "torch" in found.attrs["versions"]


def test_the_same_call_gives_the_same_numbers_and_another_seed_others(problem):
    keys = ["noise-0.1", "pac-bayes", "sam", "trace"]
    one, again, other = (summary(problem, measures=keys, n_directions=5, seed=s, settings=QUICK) for s in (0, 0, 1))
    for key in keys:
        assert np.array_equal(one[key].samples, again[key].samples)
    assert not np.array_equal(one["noise-0.1"].samples, other["noise-0.1"].samples)
    assert not np.array_equal(one["pac-bayes"].samples, other["pac-bayes"].samples)


def test_any_term_is_measured_alike(problem):
    kd = summary(problem, term="kd", measures=["sam", "noise-0.1"], n_directions=5)
    alone = ls.Problem(problem.model, lambda m, b: {"kd": objective(m, b)["kd"]}, problem.batches)
    assert kd.attrs["term"] == "kd"
    for measure in summary(alone, measures=["sam", "noise-0.1"], n_directions=5):
        assert measure.value == pytest.approx(kd[measure.key].value, rel=1e-5)


def test_a_plane_gives_two_directions_and_an_area(problem, plane):
    found = summary(problem, surface=plane, settings=QUICK)
    assert set(AREAS) <= set(found.keys())
    assert found["width-1"].n == 2
    assert "noise-0.25" in found.left_out  # no point of this grid
    assert "n_directions" not in found.attrs
    with pytest.raises(ValueError, match=r"measures must be some of width-0\.1.*Got 'area-1'"):
        summary(problem, measures=["area-1"])


def test_without_a_gradient_the_other_numbers_are_there_and_a_named_one_is_refused(problem):
    found = summary(problem, term="wrong", n_directions=5, settings=replace(QUICK, noise_rise=0.01))
    assert found.keys() == (*LINES, "pac-bayes", "pac-bayes-relative")
    assert set(found.left_out) == {"sam", "adaptive", "keskar", "top-eigenvalue", "trace"}
    assert all("term 'wrong' must be differentiable" in why for why in found.left_out.values())
    assert "left out: term 'wrong' must be differentiable" in str(found)
    with pytest.raises(KeyError, match=r"Got 'sam', which was left out: term 'wrong' must be"):
        found["sam"]
    for key in ("sam", "trace"):
        with pytest.raises(ValueError, match=r"term 'wrong' must be differentiable"):
            summary(problem, term="wrong", measures=[key])


class _Breaks(nn.Module):
    """A loss that is not a number beyond a distance of 0.4 weights."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(3, 2, dtype=torch.float64))

    def forward(self, x):
        far = (self.w - 1).square().sum().sqrt()
        return torch.where(far > 0.4 * 6**0.5, torch.nan, 9 * far**2).expand(len(x))


def test_a_loss_that_is_not_finite_ends_the_basin_and_leaves_out_what_needs_it():
    broken = ls.Problem(_Breaks(), lambda m, b: {"loss": m(b)}, [torch.zeros(2)])
    found = summary(broken, measures=["width-1", "width-100"], n_directions=6, settings=Settings(rises=(1.0, 100.0)))
    assert found["width-1"].censored == 0
    assert found["width-100"].censored == 6
    assert found["width-100"].value == pytest.approx(0.8, abs=0.051)
    with pytest.raises(ValueError, match=r"'loss' must be finite at -0\.5 and 0\.5"):
        summary(broken, measures=["noise-0.5"], settings=Settings(noise=(0.5,)))
    with pytest.raises(ValueError, match=r"term 'loss' and its derivatives must be finite"):
        summary(broken, measures=["sam"], settings=Settings(rho=2.0))


def test_errors_say_what_is_wrong(problem, plane):
    other = ls.Problem(network(), objective, problem.batches)
    with pytest.raises(ValueError, match=r"surface must be of the problem's weights\. Got one of others"):
        summary(other, surface=plane)
    train = ls.Problem(problem.model, objective, problem.batches, "train")
    with pytest.raises(ValueError, match=r"surface must be of the problem's data, 'train'\. Got one of 'held out'"):
        summary(train, surface=plane)
    with pytest.raises(ValueError, match=r"term must be among those of the objective: ce, kd, wrong\. Got 'mse'"):
        summary(problem, term="mse")
    with pytest.raises(ValueError, match=r"measures must be some of .*sam.*Got 'flatness'"):
        summary(problem, measures=["flatness"])
    nowhere = ls.Problem(problem.model, lambda m, b: {"ce": objective(m, b)["ce"] * torch.nan}, problem.batches)
    with pytest.raises(ValueError, match="must be finite"):  # every one is left out
        summary(nowhere)
    with pytest.raises(KeyError, match=r"one of sam\. Got 'trace'\."):
        summary(problem, measures=["sam"])["trace"]
    with pytest.raises(ValueError, match=r"share must be between 0 and 1\. Got 2"):
        summary(problem, measures=["sam"])["sam"].quantile(2)


WIDTH = Definition("width-1", "basin width at +1", "in filter norms", "Li et al. 2018", "large", "layers")
SAM = Definition("sam", "SAM sharpness at 0.05", "largest rise", "Foret et al. 2021", "small", "none", "lower")


def made() -> Flatness:
    width = Measure(WIDTH, 1.5, 1.0, math.inf, np.array([1.0, 1.5, math.inf]), "median", 1, "1 of 3 lines end before")
    sam = Measure(SAM, 0.25, math.nan, math.nan, np.array([0.25]), at_least=True)
    made_by = stamp(torch.device("cpu")) | {"seed": 0, "checkpoint_sha256": "0" * 64, "settings": {"rho": 0.05}}
    return Flatness((width, sam), made_by | {"term": "ce", "split": "test", "left_out": {"trace": "no such thing"}})


def test_the_table_is_aligned():
    assert str(made()).splitlines() == [
        "Flatness of ce on test",
        "                         value  95 % interval  n",
        "basin width at +1          1.5  1 to inf       3  1 of 3 lines end before",
        "SAM sharpness at 0.05  >= 0.25                 1",
        "trace                        -                    left out: no such thing",
    ]


def test_a_file_gives_back_what_was_written(tmp_path):
    path, flatness = tmp_path / "flatness.h5", made()
    flatness.save(path)
    found = ls.load(path)
    assert isinstance(found, Flatness)
    assert found.attrs == flatness.attrs | {"schema": "dot-landscape/flatness", "schema_version": 1}
    for read, written in zip(found, flatness, strict=True):
        assert read.what == written.what
        for name in ("value", "low", "high", "center", "censored", "note", "at_least"):
            np.testing.assert_equal(getattr(read, name), getattr(written, name))
        np.testing.assert_array_equal(read.samples, written.samples)
    assert str(found) == str(flatness)
    with h5py.File(path) as file:
        assert file["measures/width-1/samples"].dims[0][0].attrs["long_name"]
        assert file["measures/width-1"].attrs["source"] == "Li et al. 2018"
    described = describing.describe(path)
    assert described["schema"] == "dot-landscape/flatness"
    assert described["measures"]["sam"]["bound"] == "lower"
    assert described["measures"]["width-1"]["censored"] == 1
    assert wholeness.faults(path) == []


def test_what_was_measured_is_whole(problem, plane, tmp_path):
    summary(problem, surface=plane, settings=QUICK).save(tmp_path / "flatness.h5")
    assert wholeness.faults(tmp_path / "flatness.h5") == []


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("value", 3.0, "width-1 must be the median of its samples, 1.5. Got 3.0."),
        ("low", 1.7, "width-1 must lie in its interval"),
        ("censored", 2, "censored of width-1 must count the infinite samples. Got 2, not 1."),
    ],
)
def test_a_number_that_is_not_what_its_samples_tell_is_a_fault(name, value, said, tmp_path):
    path = tmp_path / "flatness.h5"
    made().save(path)
    with h5py.File(path, "r+") as file:
        file["measures/width-1"].attrs[name] = value
    assert said in "\n".join(wholeness.faults(path))


def test_a_file_without_its_provenance_is_a_fault(tmp_path):
    path = tmp_path / "flatness.h5"
    made().save(path)
    with h5py.File(path, "r+") as file:
        del file.attrs["checkpoint_sha256"]
    assert wholeness.faults(path) == ["attribute checkpoint_sha256 is missing."]


def test_a_file_of_another_kind_is_refused_by_its_kind(problem, plane, tmp_path):
    path, surface = tmp_path / "flatness.h5", tmp_path / "surface.h5"
    made().save(path)
    store.create_surface(surface, plane)
    with pytest.raises(ValueError, match=r"flatness\.h5 must be a surface file\. Got a flatness file"):
        store.load_surface(path)
    with pytest.raises(ValueError, match=r"flatness\.h5 must be a conflict file\. Got a flatness file"):
        store.load_conflict(path)
    with pytest.raises(ValueError, match=r"surface\.h5 must be a flatness file\. Got a surface file"):
        store.load_flatness(surface)
    with h5py.File(path, "r+") as file:
        del file["measures/sam"]
    with pytest.raises(ValueError, match=r"must hold a whole dot-landscape/flatness\. Got a file with a part missing"):
        ls.load(path)
