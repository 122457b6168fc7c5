"""Matplotlib figures as inline SVG whose colours follow the page's theme."""

import html
import io
import re
import warnings
import zlib
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from qface_jax.evals.results import Curve

# Matplotlib writes colours as hexadecimal; these stand in for the page's CSS
# variables and are replaced in the finished SVG, so one picture serves both themes.
_INK, _MUTED, _GRID = "#010203", "#010204", "#010205"
_SERIES = tuple(f"#0102{16 + i:02x}" for i in range(8))
_VARIABLES = {_INK: "--ink", _MUTED: "--muted", _GRID: "--grid"} | {
    colour: f"--series-{i + 1}" for i, colour in enumerate(_SERIES)
}
_STYLE = {
    "text.parse_math": False,  # a name with dollar signs is a name
    "svg.fonttype": "none",  # text stays text: small, selectable
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "axes.titlecolor": _INK,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}
_MARKERS = "osD^vPX*"
_LABELS_SHOWN = 8
_DET_RATES = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.4)


class Line(NamedTuple):
    """One series of a plot.

    Attributes:
        label: in the legend.
        x: ascending [k].
        y: [k]; NaN leaves a gap.
        spread: half length of the error bars [k], or None.
        dashed: drawn dashed.
        colour: lines of one number share a colour; None: by its place in the plot.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    spread: np.ndarray | None = None
    dashed: bool = False
    colour: int | None = None


@matplotlib.rc_context(_STYLE)
def accuracy_plot(
    title: str,
    lines: Sequence[Line],
    *,
    ticks: Sequence[float],
    xlabel: str,
    ylabel: str,
    chance: float | None = None,
) -> str:
    """Draws rates (0..1), in percent, over conditions such as resolutions.

    Args:
        title: above the axes.
        lines: `x` holds numbers of conditions, > 0; the axis is logarithmic.
        ticks: every condition, in any order.
        xlabel: of the horizontal axis.
        ylabel: of the vertical axis.
        chance: rate of the constant answer, as a dashed line; or None.
    """
    figure, axes = _figure()
    for i, line in enumerate(lines):
        _errorbar(axes, line, i, len(lines))
    if chance is not None:
        axes.axhline(100 * chance, color=_MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"constant answer {100 * chance:.0f} %",
            (1, 100 * chance),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color=_MUTED,
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    axes.minorticks_off()
    axes.set_ylim(top=min(axes.get_ylim()[1], 101))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return _titled(figure, axes, title, len(lines))


@matplotlib.rc_context(_STYLE)
def roc_plot(title: str, lines: Sequence[Line]) -> str:
    """Draws true accept rate over false accept rate, the latter logarithmic."""
    figure, axes = _figure()
    for i, line in enumerate(lines):
        style = {"where": "post", "label": _name(line.label)} | _stroke(line, i)
        axes.step(line.x, line.y, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    axes.set_xlim(min(line.x[0] for line in lines) * 0.9, 1)
    axes.set_ylim(0, 1.02)
    axes.set(xlabel="false accept rate", ylabel="true accept rate")
    return _titled(figure, axes, title, len(lines), loc="lower right")


@matplotlib.rc_context(_STYLE)
def discard_plot(title: str, lines: Sequence[Line]) -> str:
    """Draws false non-match rate over the share of pairs left out, both 0..1."""
    figure, axes = _figure()
    for i, line in enumerate(lines):
        colour = _SERIES[(3 * i) % len(_SERIES)]
        x, y = 100 * line.x, 100 * line.y
        axes.step(x, y, where="post", color=colour, label=_name(line.label))
    axes.set(
        xlabel="pairs left out, lowest quality first, %",
        ylabel="false non-match rate, %",
    )
    axes.set_ylim(bottom=0)
    return _titled(figure, axes, title, len(lines))


@matplotlib.rc_context(_STYLE)
def histogram_plot(
    title: str, xlabel: str, ylabel: str, series: dict[str, np.ndarray]
) -> str:
    """Draws the share of values per bin, one outline per entry, on common bins."""
    figure, axes = _figure()
    values = np.concatenate([np.ravel(v) for v in series.values()])
    values = values[np.isfinite(values)].astype(np.float64)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    if high - low <= 1e-6 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 61)
    for (label, of_label), colour in zip(
        series.items(), _cycle(_SERIES, len(series)), strict=True
    ):
        counts, _ = np.histogram(of_label, edges)
        share = 100 * counts / max(len(of_label), 1)
        axes.stairs(share, edges, color=colour, label=_name(label), linewidth=1.5)
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.10)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_ylim(bottom=0)
    return _titled(figure, axes, title, len(series))


@matplotlib.rc_context(_STYLE)
def det_plot(title: str, lines: Sequence[Line]) -> str:
    """Draws false non-match over false match rate, both on the probit's axes.

    Normally distributed scores make straight lines there. Rates of exactly 0 and 1
    have no place and are left out.
    """
    figure, axes = _figure()
    lowest = 0.1
    for i, line in enumerate(lines):
        inside = (line.x > 0) & (line.x < 1) & (line.y > 0) & (line.y < 1)
        x, y = line.x[inside], line.y[inside]
        lowest = min([lowest, *x, *y])
        axes.plot(_probit(x), _probit(y), label=_name(line.label), **_stroke(line, i))
    rates = [rate for rate in _DET_RATES if rate >= lowest / 10]
    ticks = _probit(rates), [f"{100 * rate:g}" for rate in rates]
    axes.set_xticks(*ticks)
    axes.set_yticks(*ticks)
    ends = _probit([lowest / 2, 0.6])
    axes.set(xlim=ends, ylim=ends)
    axes.set(xlabel="false match rate, %", ylabel="false non-match rate, %")
    return _titled(figure, axes, title, len(lines), loc="upper right")


def _probit(rates: Sequence[float]) -> list[float]:
    """Returns the points at which the normal distribution has these rates."""
    return [NormalDist().inv_cdf(rate) for rate in rates]


@matplotlib.rc_context(_STYLE)
def line_plot(curve: Curve, lines: Sequence[Line]) -> str:
    """Draws lines over axes that the curve names."""
    figure, axes = _figure()
    for i, line in enumerate(lines):
        axes.plot(line.x, line.y, label=_name(line.label), **_stroke(line, i))
    axes.set(xlabel=curve.xlabel, ylabel=curve.ylabel)
    for axis in curve.logarithmic:
        axes.set(**{f"{axis}scale": "log"})
    return _titled(figure, axes, curve.title, len(lines))


# Kind of a result's curve -> what draws it.
KINDS: dict[str, Callable[[Curve, Sequence[Line]], str]] = {
    "roc": lambda curve, lines: roc_plot(curve.title, lines),
    "discard": lambda curve, lines: discard_plot(curve.title, lines),
    "histogram": lambda curve, lines: histogram_plot(
        curve.title,
        curve.xlabel,
        curve.ylabel or "images, %",  # results of older versions do not say it
        {line.label: line.y for line in lines},
    ),
    "det": lambda curve, lines: det_plot(curve.title, lines),
    "line": line_plot,
}


@matplotlib.rc_context(_STYLE)
def curve_plot(lines: Sequence[Line], *, unit: str = "", factor: float = 1.0) -> str:
    """Draws scalars over training steps; `y` is multiplied by `factor`.

    The title is left to the page, which can wrap it.
    """
    figure, axes = _figure(4.2, 2.5)
    for line, colour in zip(lines, _cycle(_SERIES, len(lines)), strict=True):
        axes.plot(
            line.x,
            factor * line.y,
            color=colour,
            label=_name(line.label),
            # A single point has no line to be seen by.
            marker="o" if len(line.x) < 30 else None,
            markersize=3.5,
        )
    axes.set(xlabel="step", ylabel=unit)
    axes.margins(x=0.02)
    if len(lines) > 3:
        # Beside the axes: among many lines there is no free place inside.
        figure.legend(loc="outside right upper", handlelength=1.2)
    elif len(lines) > 1:
        _legend(axes, len(lines))
    return _svg(figure, ", ".join(line.label for line in lines))


def _figure(width: float = 5.4, height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _stroke(line: Line, place: int) -> dict[str, str]:
    number = place if line.colour is None else line.colour
    return {
        "color": _SERIES[number % len(_SERIES)],
        "linestyle": "--" if line.dashed else "-",
    }


def _errorbar(axes: Axes, line: Line, i: int, count: int) -> None:
    # Side by side by a few percent of an octave, so that error bars do not overlap.
    shift = 2.0 ** (0.06 * (i - (count - 1) / 2))
    axes.errorbar(
        line.x * shift,
        100 * line.y,
        None if line.spread is None else 100 * line.spread,
        color=_SERIES[(3 * i) % len(_SERIES)],
        marker=_MARKERS[i % len(_MARKERS)],
        markersize=5,
        elinewidth=1.2,
        capsize=2.5,
        label=_name(line.label),
    )


def _legend(axes: Axes, entries: int, loc: str = "best") -> None:
    columns = -(-entries // _LABELS_SHOWN)
    axes.legend(loc=loc, ncols=max(columns, 1), handlelength=1.6)


def _titled(
    figure: Figure, axes: Axes, title: str, entries: int, loc: str = "best"
) -> str:
    axes.set_title(title)
    _legend(axes, entries, loc=loc)
    return _svg(figure, title)


def _name(label: str) -> str:
    """Matplotlib leaves labels that begin with an underscore out of the legend."""
    return f" {label}" if label.startswith("_") else label


def _cycle(colours: Sequence[str], count: int) -> list[str]:
    return [colours[i % len(colours)] for i in range(count)]


def _svg(figure: Figure, title: str) -> str:
    """Returns the figure as an <svg> element without sizes, links or metadata."""
    stream = io.StringIO()
    with warnings.catch_warnings():
        # The browser draws the text and has the characters Matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasSVG(figure).print_svg(stream)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # HTML needs no namespaces, and the page then holds no address at all.
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    # Identifiers of several pictures meet in one page.
    prefix = f"f{zlib.crc32((title + text).encode()):08x}"
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
