"""Colours that colour-blind readers can tell apart: a blue ramp of rising darkness, and one orange."""

import re
from typing import NamedTuple

import numpy as np

__all__ = [
    "ACCENT",
    "COLOURS",
    "GRID",
    "INK",
    "MUTED",
    "PAPER",
    "TRUNK",
    "Colour",
    "stage_colours",
    "style_sheet",
    "themed",
]


class Colour(NamedTuple):
    """A colour on a light and on a dark background.

    Pictures are drawn in the light colour; on a page each colour is replaced by a CSS variable.
    """

    name: str
    light: str
    dark: str


INK = Colour("ink", "#1c2128", "#e8eaed")
MUTED = Colour("muted", "#5b6674", "#a0acb9")
GRID = Colour("grid", "#e1e6eb", "#2d353f")
TRUNK = Colour("trunk", "#ccd4dd", "#46515f")
PAPER = Colour("paper", "#ffffff", "#171b21")
GROUND = Colour("ground", "#f5f7f9", "#0e1115")
ACCENT = Colour("accent", "#c4450c", "#ff9a57")

# From the cheapest to the most expensive stage: away from the background in both.
LIGHT_RAMP = ("#85c3e6", "#66add9", "#4996cb", "#337fb9", "#2569a3", "#1c558b", "#164272", "#113158")
DARK_RAMP = ("#2d6ba1", "#3e7fb6", "#5293c8", "#6aa6d7", "#85b9e3", "#a0caec", "#bcdaf3", "#d8ebfa")
STAGES = tuple(
    Colour(f"stage-{k}", light, dark) for k, (light, dark) in enumerate(zip(LIGHT_RAMP, DARK_RAMP, strict=True))
)

COLOURS = (INK, MUTED, GRID, TRUNK, PAPER, GROUND, ACCENT, *STAGES)


def stage_colours(stages: int) -> list[str]:
    """Light colours of K stages, spread over the ramp; a single stage gets the middle one."""
    places = np.linspace(1, len(STAGES) - 1, stages).round().astype(int) if stages > 1 else [4]
    return [STAGES[place].light for place in places]


def themed(svg: str) -> str:
    """An SVG picture with its colours replaced by CSS variables."""
    variable = {colour.light: f"var(--{colour.name})" for colour in COLOURS}
    return re.sub(r"((?:fill|stroke): )(#[0-9a-f]{6})", lambda found: found[1] + variable.get(found[2], found[2]), svg)


def style_sheet() -> str:
    """The CSS variables, for light and for dark pages."""
    light, dark = (
        "; ".join(f"--{colour.name}: {value}" for colour, value in zip(COLOURS, values, strict=True))
        for values in zip(*((colour.light, colour.dark) for colour in COLOURS), strict=True)
    )
    return f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
