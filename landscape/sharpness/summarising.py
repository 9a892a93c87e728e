"""All flatness numbers of one minimum at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import torch

from landscape.isolation import preserve_rng
from landscape.problem import Problem, per_example
from landscape.progress import bar
from landscape.provenance import digest_model, stamp
from landscape.results import Surface
from landscape.sharpness import adversarial, area, curvature, noise, pac_bayes, spectrum, widths
from landscape.sharpness.flatness import Flatness
from landscape.sharpness.measure import Measure
from landscape.sharpness.settings import Settings
from landscape.sharpness.source import Source

Recipe = Callable[[Source], Measure]


def summary(
    problem: Problem,
    surface: Surface | None = None,
    *,
    term: str | None = None,
    measures: Collection[str] | None = None,
    n_directions: int = 20,
    seed: int = 0,
    settings: Settings = Settings(),  # noqa: B008
) -> Flatness:
    """Flatness numbers of a problem's minimum, each with its error, its definition and its paper.

    The minimum need not be exact: noise of both signs is free of the slope that is left. All of them, as they are set,
    take about 1,400 passes over the data, 800 of them for the lines, 200 gradients, and up to 400 products with the
    Hessian. Each is of these data: its interval is over directions, draws or probes.

    Args:
        problem: Model, objective and data, of training or of test, of any term.
        surface: A measured surface of the problem, whose lines through the origin are taken; by default
            ``n_directions`` random filter-normalised lines of 41 points from -1 to 1 are evaluated. A plane gives two
            directions, and the area of its low-loss set.
        term: Which term; the first by default.
        measures: Short names of those that are wanted, such as ``["width-0.1", "sam"]``; all by default. Of all, those
            that cannot be had are left out, which the result says; those that are named are refused.
        n_directions: Of the lines that are evaluated here.
        seed: Of all that is drawn.
        settings: At which rises and sizes.

    Returns:
        The numbers, as a table: iterate over it, print it, or take one by its short name.

    Raises:
        ValueError: The surface is of other weights or another split than the problem's, the objective has no such term,
            a name is none of a measure, or a measure that is named (or every one) cannot be had.
        RuntimeError: The device has no memory for a single example.
    """
    if surface is not None:
        _refuse_another(surface, problem)
    known = recipes(settings, plane=surface is not None and surface.y is not None)
    chosen = _chosen(measures, known)
    source = Source(problem, _term(problem, term), settings, seed, n_directions, surface)
    found: list[Measure] = []
    left_out: dict[str, str] = {}
    with bar(len(chosen), "flatness", "measure") as progress:
        for key in chosen:
            try:
                found.append(known[key](source))
            except ValueError as error:
                if measures is not None or len(left_out) + 1 == len(chosen):
                    raise
                left_out[key] = str(error)
            progress.update()
    return Flatness(tuple(found), _attrs(source, n_directions) | {"left_out": left_out})


def names(*, of_lines: bool = False) -> tuple[str, ...]:
    """Short names of all numbers that need no plane, or of those that lines give, at the default settings."""
    return tuple(_of_lines(Settings()) if of_lines else recipes(Settings(), plane=False))


def recipes(settings: Settings, *, plane: bool) -> dict[str, Recipe]:
    """How each number is taken, by its short name.

    Args:
        settings: At what.
        plane: Whether a plane is there, whose low-loss set has an area.
    """

    def noisy(measure: Callable[..., Measure]) -> Recipe:
        return lambda s: measure(s.problem, s.term, settings.noise_rise, settings.draws, s.seed)

    def within(measure: Callable[..., Measure], size: float) -> Recipe:
        how = {"starts": settings.starts, "steps": settings.steps}
        return lambda source: measure(source.derivatives, size, **how, seed=source.seed)

    found = _of_lines(settings)
    found |= {"pac-bayes": noisy(pac_bayes.isotropic), "pac-bayes-relative": noisy(pac_bayes.relative)}
    found["sam"] = within(adversarial.sam, settings.rho)
    found["adaptive"] = within(adversarial.adaptive, settings.rho_adaptive)
    found["keskar"] = within(adversarial.keskar, settings.epsilon)
    found["top-eigenvalue"] = lambda s: spectrum.top_eigenvalue(s.problem, s.term, settings.products, s.seed)
    found["trace"] = lambda s: spectrum.trace(s.problem, s.term, settings.trace_error, settings.products, s.seed)
    if plane:
        found |= {f"area-{rise:g}": _along(area.low_loss, rise) for rise in settings.rises}
    return found


def _of_lines(settings: Settings) -> dict[str, Recipe]:
    """Those that are read off lines, without further passes."""
    found = {f"width-{rise:g}": _along(widths.width, rise) for rise in settings.rises}
    found["curvature"] = _along(curvature.curvature)
    return found | {f"noise-{size:g}": _along(noise.expected, size) for size in settings.noise}


def _along(measure: Callable[..., Measure], *at: float) -> Recipe:
    return lambda source: measure(source.lines, source.term, *at)


def _refuse_another(surface: Surface, problem: Problem) -> None:
    if surface.attrs.get("checkpoint_sha256") != digest_model(problem.model):
        raise ValueError("surface must be of the problem's weights. Got one of others: measure it again.")
    if surface.attrs.get("split", problem.split) != problem.split:
        raise ValueError(
            f"surface must be of the problem's data, {problem.split!r}. Got one of {surface.attrs['split']!r}: measure "
            "it again."
        )


def _chosen(measures: Collection[str] | None, known: Mapping[str, Recipe]) -> list[str]:
    if measures is None:
        return list(known)
    wanted = [measures] if isinstance(measures, str) else list(dict.fromkeys(measures))
    for key in wanted:
        if key not in known:
            raise ValueError(f"measures must be some of {', '.join(known)}. Got {key!r}.")
    return wanted


def _term(problem: Problem, term: str | None) -> str:
    """Its name, looked up in the first batch."""
    with preserve_rng(0, problem.device), torch.no_grad(), closing(problem.iterate()) as batches:
        batch = next(batches)
        terms = per_example(problem.objective(problem.private_copy(), batch), batch)
    if term is not None and term not in terms:
        raise ValueError(f"term must be among those of the objective: {', '.join(terms)}. Got {term!r}.")
    return next(iter(terms)) if term is None else term


def _attrs(source: Source, n_directions: int) -> dict[str, Any]:
    problem = source.problem
    lines = {"n_directions": n_directions} if source.surface is None else {}
    return (
        stamp(problem.device)
        | {"checkpoint_sha256": digest_model(problem.model), "data_sha256": problem.data_sha256()}
        | {"split": problem.split, "term": source.term}
        | {"seed": source.seed, "settings": asdict(source.settings)}
        | lines
    )
