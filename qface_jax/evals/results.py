"""What an evaluation found, on disk (RUN/eval/<set>.json and .npz) and as a table."""

import dataclasses
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from qface_jax.atomic_file import replace_file
from qface_jax.errors import DataError
from qface_jax.evals.measures.verification import Score, TarAtFar

FORMAT = 1  # raised when the meaning of a key changes


@dataclasses.dataclass(frozen=True)
class Row:
    """One resolution.

    Attributes:
        side: of the degraded image, px.
        status: "ok", "collapsed" or "non_finite", of the embeddings at this side.
        message: what is wrong with them; empty when ok.
        cross: second image of each pair degraded; None where nothing can be compared.
        same: both images degraded; None likewise.
        norms: mean, std, min, max of the feature norms at this side; None likewise.
    """

    side: int
    status: str
    message: str
    cross: Score | None
    same: Score | None
    norms: dict[str, float] | None


@dataclasses.dataclass(frozen=True)
class Result:
    """One evaluation of one set, with the protocol that makes it comparable.

    Attributes:
        set: name of the set.
        status: "ok", or the worst status of the rows.
        message: what is wrong, naming the resolutions; empty when ok.
        rows: one per resolution, largest first.
        mean_cross: mean accuracy over the resolutions, or None where one is missing.
        mean_same: the same for both images degraded.
        protocol: everything the numbers depend on besides the model.
        checkpoint: what was evaluated, such as {"path": ..., "step": ...}.
        config_hash: of the run's config.
        versions: of Python and the packages.
        date: of the evaluation, UTC, ISO 8601.
        images_per_second: measured over the embedding.
        quality: what `error_discard.judge` found about the scores of the images; None
            where they cannot be judged.
        arrays: distances and scores for the plots; written to the .npz alone.
    """

    set: str
    status: str
    message: str
    rows: list[Row]
    mean_cross: float | None
    mean_same: float | None
    protocol: dict[str, Any]
    checkpoint: dict[str, Any]
    config_hash: str
    versions: dict[str, str]
    date: str
    images_per_second: float
    quality: dict[str, Any] | None = None
    arrays: dict[str, np.ndarray] = dataclasses.field(
        default_factory=dict, compare=False
    )


def result_path(run_dir: str | Path, name: str) -> Path:
    """Returns RUN/eval/<set>.json; characters unfit for a file name become "_"."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "_"
    return Path(run_dir) / "eval" / f"{safe}.json"


def before(run_dir: str | Path) -> Path:
    """Returns the folder whose eval/ holds what a run started from: RUN/before."""
    return Path(run_dir) / "before"


def to_json(result: Result) -> dict[str, Any]:
    """Returns the result as plain JSON values, without the arrays."""
    fields = dataclasses.asdict(dataclasses.replace(result, arrays={}))
    del fields["arrays"]
    return {"format": FORMAT, **fields}


def from_json(document: dict[str, Any], arrays: dict[str, np.ndarray]) -> Result:
    """Rebuilds a result; raises KeyError, TypeError or ValueError when it cannot."""
    fields = dict(document)
    if fields.pop("format") != FORMAT:
        raise ValueError(f"format {document['format']}, this version reads {FORMAT}")
    rows = [
        Row(**{**row, "cross": _score(row["cross"]), "same": _score(row["same"])})
        for row in fields.pop("rows")
    ]
    return Result(**fields, rows=rows, arrays=arrays)


def write(run_dir: str | Path, result: Result) -> Path:
    """Writes RUN/eval/<set>.npz, then <set>.json, each aside and then renamed."""
    path = result_path(run_dir, result.set)
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    # The date ties the two files together should one of the renames not happen.
    np.savez(packed, date=np.array(result.date), **result.arrays)
    replace_file(path.with_suffix(".npz"), packed.getvalue())
    text = json.dumps(to_json(result), indent=1, ensure_ascii=False, allow_nan=False)
    replace_file(path, (text + "\n").encode())
    return path


def read(path: str | Path) -> Result:
    """Reads one result; its arrays are empty without a whole .npz of the same date.

    Raises:
        DataError: not a result file of this version.
    """
    path = Path(path)
    try:
        document = json.loads(path.read_text("utf-8"))
        return from_json(document, _read_arrays(path, document["date"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"evaluation result {path}: cannot be read "
            f"({type(error).__name__}: {error}); run qface eval again"
        ) from error


def scalars(result: Result) -> dict[str, float]:
    """Returns the numbers worth following during training, by name.

    mean_cross, mean_same, and per side: cross_<side>, same_<side>, auc_<side> (cross)
    and norm_mean_<side>; of each quality score rank_<score>, its rank correlation with
    the resolution, and discard_<score>, the area below its error-versus-discard curve.
    `degenerate` is 1 when the status is not "ok", else 0. What could not be computed is
    left out.
    """
    found = {
        "degenerate": float(result.status != "ok"),
        "mean_cross": result.mean_cross,
        "mean_same": result.mean_same,
    }
    for row in result.rows:
        found[f"cross_{row.side}"] = row.cross and row.cross.accuracy
        found[f"same_{row.side}"] = row.same and row.same.accuracy
        found[f"auc_{row.side}"] = row.cross and row.cross.auc
        found[f"norm_mean_{row.side}"] = row.norms and row.norms["mean"]
    for name, facts in (result.quality or {}).get("scores", {}).items():
        found[f"rank_{name}"] = facts["rank_correlation"]
        found[f"discard_{name}"] = facts["area"]
    return {name: value for name, value in found.items() if value is not None}


def _score(fields: dict[str, Any] | None) -> Score | None:
    if fields is None:
        return None
    points = [TarAtFar(**point) for point in fields["tar_at_far"]]
    return Score(**{**fields, "tar_at_far": points})


def _read_arrays(path: Path, date: str) -> dict[str, np.ndarray]:
    try:
        with (
            path.with_suffix(".npz").open("rb") as file,
            np.load(file, allow_pickle=False) as packed,
        ):
            arrays = {name: packed[name] for name in packed.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return {}  # the numbers stand without them, and the report names the gap
    return arrays if str(arrays.pop("date", "")) == date else {}
