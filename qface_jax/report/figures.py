"""Figures as inline SVG whose colours follow the page's theme, or as pixels."""

import contextlib
import functools
import html
import importlib.resources
import io
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from qface_jax.evals.results import Curve

# Matplotlib writes colours as hexadecimal; these stand in for the page's CSS
# variables and are replaced in the finished SVG, so one picture serves both themes.
_NAMES = ("--ink", "--muted", "--grid", *(f"--series-{i + 1}" for i in range(8)))
_PLACEHOLDERS = {name: f"#0102{3 + i:02x}" for i, name in enumerate(_NAMES)}
_PAGE = "page.html.j2"  # whose first style rule holds the colours of the light theme
_MARKERS = "osD^vPX*"
_LABELS_SHOWN = 8
_DPI = 110  # of pictures in pixels
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
        note: behind the label, of a ROC.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    spread: np.ndarray | None = None
    dashed: bool = False
    colour: int | None = None
    note: str = ""


class Plot:
    """A figure that is drawn when it is asked for, in the colours of where it goes."""

    def __init__(self, draw: Callable[[], Figure]):
        """Takes what draws it in the current style; its label is what it shows."""
        self._draw = draw

    def svg(self) -> str:
        """Returns an <svg> element whose colours follow the page's theme."""
        with matplotlib.rc_context(_style(_PLACEHOLDERS)):
            figure = self._draw()
            return _svg(figure, figure.get_label())

    def pixels(self) -> tuple[str, np.ndarray]:
        """Returns the title and the picture, uint8 [h, w, 3], in the light theme."""
        colours = _light()
        with matplotlib.rc_context(_style(colours)), _no_glyph_warnings():
            figure = self._draw()
            figure.set_dpi(_DPI)
            figure.patch.set(facecolor=colours["--card"], alpha=1)
            canvas = FigureCanvasAgg(figure)
            canvas.draw()
            return figure.get_label(), np.array(canvas.buffer_rgba())[..., :3]


def _plot(draw: Callable[..., Figure]) -> Callable[..., Plot]:
    """Makes what draws a figure return it as a `Plot`."""

    @functools.wraps(draw)
    def plot(*args: Any, **named: Any) -> Plot:
        return Plot(functools.partial(draw, *args, **named))

    return plot


@functools.cache
def _light() -> dict[str, str]:
    """Returns the colours of the page's light theme, by the name of the variable."""
    page = importlib.resources.files("qface_jax.report").joinpath(_PAGE)
    rule = page.read_text("utf-8").split(":root {", 1)[1].split("}", 1)[0]
    return dict(re.findall(r"(--[\w-]+): (#\w+)", rule))


def _style(colours: Mapping[str, str]) -> dict[str, Any]:
    """Returns Matplotlib's settings, with the colours of a theme."""
    ink, muted, grid, *series = (colours[name] for name in _NAMES)
    return {
        "text.parse_math": False,  # a name with dollar signs is a name
        "svg.fonttype": "none",  # text stays text: small, selectable
        "font.size": 9.5,
        "text.color": ink,
        "axes.edgecolor": grid,
        "axes.labelcolor": muted,
        "axes.titlecolor": ink,
        "axes.titlesize": 10.5,
        "axes.titlelocation": "left",
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.prop_cycle": matplotlib.cycler(color=series),
        "grid.color": grid,
        "grid.linewidth": 0.6,
        "xtick.color": muted,
        "ytick.color": muted,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "lines.linewidth": 1.6,
    }


def _series(place: int) -> str:
    """Returns the colour of a series in the current style; they repeat."""
    colours = matplotlib.rcParams["axes.prop_cycle"].by_key()["color"]
    return colours[place % len(colours)]


def _muted() -> str:
    return matplotlib.rcParams["axes.labelcolor"]


@_plot
def accuracy_plot(
    title: str,
    lines: Sequence[Line],
    *,
    ticks: Sequence[float],
    xlabel: str,
    ylabel: str,
    chance: float | None = None,
) -> Figure:
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
        axes.axhline(100 * chance, color=_muted(), linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            f"constant answer {100 * chance:.0f} %",
            (1, 100 * chance),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8,
            color=_muted(),
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    axes.minorticks_off()
    axes.set_ylim(top=min(axes.get_ylim()[1], 101))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return _titled(figure, axes, title, len(lines))


@_plot
def roc_plot(title: str, lines: Sequence[Line]) -> Figure:
    """Draws true over false accept rate (logarithmic); dotted: equal errors."""
    figure, axes = _figure()
    rates = np.geomspace(min(line.x[0] for line in lines), 1, 200)
    axes.plot(rates, 1 - rates, ":", color=_muted(), linewidth=1)
    for i, line in enumerate(lines):
        label = ", ".join(filter(None, (_name(line.label), line.note)))
        axes.step(line.x, line.y, where="post", label=label, **_stroke(line, i))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    axes.set_xlim(min(line.x[0] for line in lines) * 0.9, 1)
    axes.set_ylim(0, 1.02)
    axes.set(xlabel="false accept rate", ylabel="true accept rate")
    return _titled(figure, axes, title, len(lines), loc="lower right")


@_plot
def discard_plot(title: str, lines: Sequence[Line]) -> Figure:
    """Draws false non-match rate over the share of pairs left out, both 0..1."""
    figure, axes = _figure()
    for i, line in enumerate(lines):
        colour = _series(3 * i)
        x, y = 100 * line.x, 100 * line.y
        axes.step(x, y, where="post", color=colour, label=_name(line.label))
    axes.set(
        xlabel="pairs left out, lowest quality first, %",
        ylabel="false non-match rate, %",
    )
    axes.set_ylim(bottom=0)
    return _titled(figure, axes, title, len(lines))


@_plot
def histogram_plot(
    title: str, xlabel: str, ylabel: str, series: dict[str, np.ndarray]
) -> Figure:
    """Draws the share of values per bin, one outline per entry, on common bins."""
    figure, axes = _figure()
    values = np.concatenate([np.ravel(v) for v in series.values()])
    values = values[np.isfinite(values)].astype(np.float64)
    low, high = (values.min(), values.max()) if len(values) else (0.0, 1.0)
    if high - low <= 1e-6 * max(abs(high), 1.0):
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 61)
    for i, (label, of_label) in enumerate(series.items()):
        colour = _series(i)
        counts, _ = np.histogram(of_label, edges)
        share = 100 * counts / max(len(of_label), 1)
        axes.stairs(share, edges, color=colour, label=_name(label), linewidth=1.5)
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.10)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_ylim(bottom=0)
    return _titled(figure, axes, title, len(series))


@_plot
def det_plot(title: str, lines: Sequence[Line]) -> Figure:
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


@_plot
def line_plot(curve: Curve, lines: Sequence[Line]) -> Figure:
    """Draws lines over axes that the curve names."""
    figure, axes = _figure()
    for i, line in enumerate(lines):
        axes.plot(line.x, line.y, label=_name(line.label), **_stroke(line, i))
    axes.set(xlabel=curve.xlabel, ylabel=curve.ylabel)
    for axis in curve.logarithmic:
        axes.set(**{f"{axis}scale": "log"})
    return _titled(figure, axes, curve.title, len(lines))


# Kind of a result's curve -> what draws it.
KINDS: dict[str, Callable[[Curve, Sequence[Line]], Plot]] = {
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


@_plot
def curve_plot(lines: Sequence[Line], *, unit: str = "", factor: float = 1.0) -> Figure:
    """Draws scalars over training steps; `y` is multiplied by `factor`.

    The title is left to the page, which can wrap it.
    """
    figure, axes = _figure(4.2, 2.5)
    for i, line in enumerate(lines):
        axes.plot(
            line.x,
            factor * line.y,
            color=_series(i),
            label=_name(line.label),
            # A single point has no line to be seen by.
            marker="o" if len(line.x) < 30 else None,
            markersize=3.5,
        )
    axes.set(xlabel="step", ylabel=unit)
    axes.margins(x=0.02)
    if len(lines) > 3:  # beside the axes: there is no free place inside
        figure.legend(loc="outside right upper", handlelength=1.2)
    elif len(lines) > 1:
        _legend(axes, len(lines))
    figure.set_label(", ".join(line.label for line in lines))
    return figure


def _figure(width: float = 5.4, height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    return figure, axes


def _stroke(line: Line, place: int) -> dict[str, str]:
    number = place if line.colour is None else line.colour
    return {
        "color": _series(number),
        "linestyle": "--" if line.dashed else "-",
    }


def _errorbar(axes: Axes, line: Line, i: int, count: int) -> None:
    # Side by side by a few percent of an octave, so that error bars do not overlap.
    shift = 2.0 ** (0.06 * (i - (count - 1) / 2))
    axes.errorbar(
        line.x * shift,
        100 * line.y,
        None if line.spread is None else 100 * line.spread,
        color=_series(3 * i),
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
) -> Figure:
    axes.set_title(title)
    _legend(axes, entries, loc=loc)
    figure.set_label(title)
    return figure


def _name(label: str) -> str:
    """Matplotlib leaves labels that begin with an underscore out of the legend."""
    return f" {label}" if label.startswith("_") else label


@contextlib.contextmanager
def _no_glyph_warnings() -> Iterator[None]:
    """Of characters that Matplotlib's font lacks: a browser has them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def _svg(figure: Figure, title: str) -> str:
    """Returns the figure as an <svg> element without sizes, links or metadata."""
    stream = io.StringIO()
    with _no_glyph_warnings():
        FigureCanvasSVG(figure).print_svg(stream)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    # HTML needs no namespaces, and the page then holds no address at all.
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for variable, colour in _PLACEHOLDERS.items():
        text = text.replace(colour, f"var({variable})")
    text = text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)
    # Identifiers of several pictures meet in one page.
    prefix = f"f{zlib.crc32((title + text).encode()):08x}"
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    return re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
