"""What the flatness numbers are asked at: rises, sizes of noise and of balls, and how much is spent on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """At what the numbers of a summary are taken.

    Attributes:
        rises: Of the loss, which basin widths and the area of the low-loss set are taken at.
        noise: Sizes of the noise of expected sharpness, in units of the directions; coordinates of the grid.

    Raises:
        ValueError: A number is not positive.
    """

    rises: tuple[float, ...] = (0.1, 1.0)
    noise: tuple[float, ...] = (0.1, 0.25)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            for number in value if isinstance(value, tuple) else (value,):
                if not number > 0:
                    raise ValueError(f"{name} must be above 0. Got {value}.")
