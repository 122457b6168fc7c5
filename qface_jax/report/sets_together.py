"""One picture of all sets: how each one's accuracy falls with resolution."""

from collections.abc import Sequence

from qface_jax.evals.results import Result
from qface_jax.report.figures import Plot, accuracy_plot
from qface_jax.report.results import series_line


def sets_together(evaluations: Sequence[Result]) -> list[Plot]:
    """Returns a picture for each series that at least two sets have, a line for each.

    Results with other settings than the run's own are left out.

    Args:
        evaluations: Results of a run.

    References:
        Knoche et al., "Octuplet Loss: Make Face Recognition Robust to Image
        Resolution", FG 2023, Fig. 3.
    """
    drawn: dict[tuple[str, str], list] = {}
    for result in evaluations:
        for one in () if result.changed else result.series:
            line = series_line(result.set, result, one) if one.x else None
            if line is not None and len(line.x):
                place = one.title, one.xlabel
                # Error bars of many sets would hide each other.
                drawn.setdefault(place, []).append((one, line._replace(spread=None)))
    return [
        accuracy_plot(
            f"Each set: {title.lower()}",
            [line for _, line in lines],
            ticks=sorted({x for one, _ in lines for x in one.x}),
            xlabel=xlabel,
            ylabel=f"{lines[0][0].measure}, %",
        )
        for (title, xlabel), lines in drawn.items()
        if len(lines) > 1
    ]
