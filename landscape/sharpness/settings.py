"""What the flatness numbers are asked at: rises, sizes of noise and of balls, and how much is spent on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """At what the numbers of a summary are taken.

    Attributes:
        rises: Of the loss, at which basin widths and the area of the low-loss set are taken.
        noise: Sizes of the noise of expected sharpness, in units of the directions; coordinates of the grid.
        noise_rise: Of the loss on average, at which PAC-Bayes sigmas are taken.
        draws: Of the noise, each of both signs.
        rho: Radius of the ball of SAM sharpness.
        rho_adaptive: Of that of adaptive sharpness.
        epsilon: Size of the box of Keskar's sharpness.
        starts: Of each search for a largest loss.
        steps: Of each start.
        trace_error: Relative standard error that the trace is wanted to.
        products: With the Hessian, that its largest eigenvalue and its trace may take each.

    Raises:
        ValueError: A number is not positive, or there are fewer than two draws.
    """

    rises: tuple[float, ...] = (0.1, 1.0)
    noise: tuple[float, ...] = (0.1, 0.25)
    noise_rise: float = 0.1
    draws: int = 10
    rho: float = 0.05
    rho_adaptive: float = 0.5
    epsilon: float = 1e-3
    starts: int = 3
    steps: int = 20
    trace_error: float = 0.1
    products: int = 200

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            for number in value if isinstance(value, tuple) else (value,):
                if not number > 0:
                    raise ValueError(f"{name} must be above 0. Got {value}.")
        if self.draws < 2:
            raise ValueError(f"draws must be at least 2, to tell how they differ. Got {self.draws}.")
