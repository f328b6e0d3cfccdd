"""Drawings in millimetres that both the page (SVG) and the PDF are made from, so that they cannot differ in scale.

A shape names a style, never a colour: the page's style sheet and `pdf_styles` say what a style looks like.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lines:
    """Separate straight lines: float (n, 4), x1 y1 x2 y2."""

    ends: Points
    style: str


@dataclass(frozen=True)
class Curve:
    """A line through points, float (n, 2); NaN breaks it."""

    points: Points
    style: str


@dataclass(frozen=True)
class Box:
    """A rectangle; `title` is what a pointer resting on it, or a screen reader, is told."""

    x: float
    y: float
    width: float
    height: float
    style: str
    title: str = ""
    href: str = ""


@dataclass(frozen=True)
class Area:
    """A filled polygon, float (n, 2)."""

    points: Points
    style: str


@dataclass(frozen=True)
class Text:
    """A line of text; (x, y) is its baseline's start, middle or end."""

    x: float
    y: float
    text: str
    style: str
    anchor: str = "start"
    href: str = ""


Shape = Lines | Curve | Box | Area | Text


@dataclass
class Drawing:
    """Shapes on a sheet of `width` x `height` millimetres, y downwards, drawn in order.

    Attributes:
        label: what the drawing shows, for who cannot see it.
        facts: what a script on the page needs to know of it (`data-` attributes).
    """

    width: float
    height: float
    label: str = ""
    shapes: list[Shape] = field(default_factory=list)
    facts: dict[str, object] = field(default_factory=dict)

    def add(self, *shapes: Shape) -> None:
        self.shapes.extend(shapes)

    def svg(self, css_class: str = "drawing") -> str:
        """The drawing as inline SVG; its user unit is the millimetre."""
        data = "".join(f' data-{key}="{escape(str(value))}"' for key, value in self.facts.items())
        # What is a picture to a screen reader has no links in it; a group may have.
        role = "group" if any(getattr(shape, "href", "") for shape in self.shapes) else "img"
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{css_class}" width="{self.width:g}mm" '
            f'height="{self.height:g}mm" viewBox="0 0 {self.width:g} {self.height:g}" role="{role}" '
            f'aria-label="{escape(self.label)}"{data}>'
        )
        return head + "".join(_element(shape) for shape in self.shapes) + "</svg>"


def runs(points: Points) -> Iterator[Points]:
    """The stretches of a curve between its NaNs, each of two points or more."""
    good = ~np.isnan(points).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start > 1:
            yield points[start:stop]


def _element(shape: Shape) -> str:
    match shape:
        case Lines(ends, style):
            path = "".join(f"M{_n(a)} {_n(b)}L{_n(c)} {_n(d)}" for a, b, c, d in ends.tolist())
            return f'<path class="{style}" d="{path}"/>'
        case Curve(points, style):
            return f'<path class="{style}" d="{"".join(_path(run) for run in runs(points))}"/>'
        case Area(points, style):
            return f'<path class="{style}" d="{_path(points)}Z"/>'
        case Box():
            title = f"<title>{escape(shape.title)}</title>" if shape.title else ""
            rect = (
                f'<rect class="{shape.style}" x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" '
                f'height="{_n(shape.height)}">{title}</rect>'
            )
            return _linked(rect, shape.href, shape.title)
        case Text():
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            text = (
                f'<text class="{shape.style}" x="{_n(shape.x)}" y="{_n(shape.y)}"{anchor}>{escape(shape.text)}</text>'
            )
            return _linked(text, shape.href, shape.text)


def _linked(element: str, href: str, label: str) -> str:
    return f'<a href="{escape(href)}" aria-label="{escape(label)}">{element}</a>' if href else element


def _path(points: Points) -> str:
    """Absolute first point, then steps: half as long as absolute ones. Steps are of rounded places: no drift."""
    places = np.rint(points * 100).astype(np.int64)
    first, steps = places[0], np.diff(places, axis=0)
    return f"M{_c(first[0])} {_c(first[1])}l" + _join(steps)


def _join(steps: npt.NDArray[np.int64]) -> str:
    return " ".join(f"{_c(x)} {_c(y)}" for x, y in steps.tolist())


def _c(hundredths: int) -> str:
    return f"{hundredths / 100:g}"


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def grid_lines(x0: float, y0: float, width: float, height: float, step: float) -> Points:
    """Lines of a grid, (n, 4), that starts in the corner (x0, y0)."""
    xs = x0 + np.arange(0, width + 1e-6, step)
    ys = y0 + np.arange(0, height + 1e-6, step)
    upright = [(x, y0, x, y0 + height) for x in xs]
    level = [(x0, y, x0 + width, y) for y in ys]
    return np.array(upright + level, dtype=np.float64)
