"""The tables of the papers that `qface ablation` trains again: one entry each."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Setting(NamedTuple):
    """A row of a table.

    Attributes:
        label: What the paper calls it.
        config: End of its config's name.
        text: What it is, in a few words.
        paper: The paper's numbers, percent, in the order of `Ablation.columns`; None
            where it does not say, or cannot be read.
    """

    label: str
    config: str
    text: str
    paper: tuple[float | None, ...]


class Ablation(NamedTuple):
    """A table.

    Attributes:
        title: Of the table.
        families: Size ("paper", "demo") -> beginning of the configs' names.
        settings: Its rows.
        columns: Test sets of the paper's numbers.
        columns_text: What these are and what they may be compared with.
        proposed: Label of the row that the paper proposes.
        reference: Label of the row that it is held against.
        claim: What the paper says of the two.
        start: Size -> config whose run, of the same seed, all rows are fine-tuned from;
            of other sizes the user gives one. Empty: the rows start from nothing.
        fine_tunes: Whether the rows start from another run's weights.
    """

    title: str
    families: dict[str, str]
    settings: tuple[Setting, ...]
    columns: tuple[str, ...]
    columns_text: str
    proposed: str
    reference: str
    claim: str
    start: Mapping[str, str] = MappingProxyType({})
    fine_tunes: bool = False


QGFACE_FAMILIES = {"paper": "qgface", "demo": "qgface_demo"}
QGFACE_COLUMNS = ("SCface d1", "d2", "d3", "TinyFace", "IJB-B", "HQ avg.")
QGFACE_COLUMNS_TEXT = (
    "SCface at 4.2, 2.6 and 1.0 m and TinyFace: rank-1; IJB-B: TAR at FAR 1e-4; HQ "
    "avg.: accuracy averaged over LFW, AgeDB-30, CFP-FP, CPLFW and CALFW at 112 px, "
    "the one that --size=paper measures too."
)
_E = (92.31, 99.54, 100.0, 69.85, 91.05, 95.43)

ABLATIONS: dict[str, Ablation] = {
    "qgface1": Ablation(
        title="QGFace Table I: augmentation, quality partition, contrastive loss",
        families=QGFACE_FAMILIES,
        settings=(
            Setting(
                "Baseline", "baseline", "flip only",
                (61.69, 97.23, 99.85, 63.98, 90.26, 95.62),
            ),
            Setting(
                "A", "a", "AdaFace's augmentation",
                (66.77, 99.08, 100.0, 67.49, 74.07, 95.76),
            ),
            Setting(
                "B", "b", "A, partition",
                (68.15, 98.46, 100.0, 67.03, 70.45, 95.73),
            ),
            Setting(
                "C", "c", "A, partition, contrastive",
                (70.92, 98.62, 99.69, 66.58, 90.59, 95.71),
            ),
            Setting(
                "D", "d", "QGFace's augmentation",
                (88.62, 99.23, 100.0, 68.80, 89.50, 95.46),
            ),
            Setting("E", "e", "D, partition, contrastive", _E),
        ),
        columns=QGFACE_COLUMNS,
        columns_text=QGFACE_COLUMNS_TEXT,
        proposed="E",
        reference="Baseline",
        claim="E is best on low and mixed quality (SCface d1 92.31, Baseline 61.69) "
        "and costs little on high quality (HQ avg. 95.43, Baseline 95.62).",
    ),
    "qgface2": Ablation(
        title="QGFace Table II: queue of the contrastive loss",
        families=QGFACE_FAMILIES,
        settings=(
            Setting(
                "No", "queue_none", "partition without contrastive loss",
                (87.85, 99.38, 100.0, 68.24, 90.57, 95.47),
            ),
            Setting(
                "Batch", "queue_batch", "this batch's features",
                (87.54, 99.38, 100.0, 68.67, 87.38, 95.28),
            ),
            Setting(
                "Momentum", "queue_momentum", "keys of an averaged encoder",
                (63.08, 97.85, 99.85, 62.34, 88.70, 95.18),
            ),
            Setting("Proxy", "e", "proxy-updated features (setting E)", _E),
        ),
        columns=QGFACE_COLUMNS,
        columns_text=QGFACE_COLUMNS_TEXT,
        proposed="Proxy",
        reference="No",
        claim="Proxy is best on low and mixed quality and 0.04 below No on high "
        "quality; Momentum is worse than No everywhere.",
    ),
    "qgface3": Ablation(
        title="QGFace Table III: threshold of the quality partition",
        families=QGFACE_FAMILIES,
        settings=(
            Setting(
                "No", "threshold_none", "both losses of all samples",
                (90.77, 99.69, 100.0, 69.80, 91.26, 95.08),
            ),
            Setting(
                "0.1", "threshold_01", "threshold 0.1",
                (86.00, 99.54, 100.0, 68.13, 90.87, 95.41),
            ),
            Setting("0.2", "e", "threshold 0.2 (setting E)", _E),
            Setting(
                "0.3", "threshold_03", "threshold 0.3",
                (88.92, 99.54, 100.0, 68.51, 89.33, 94.95),
            ),
        ),
        columns=QGFACE_COLUMNS,
        columns_text=QGFACE_COLUMNS_TEXT,
        proposed="0.2",
        reference="No",
        claim="0.2 balances low and high quality best (SCface d1 92.31, No 90.77; HQ "
        "avg. 95.43, No 95.08).",
    ),
    "octuplet4": Ablation(
        title="Octuplet Table 4, upper part: terms of the loss",
        families={"paper": "octuplet_terms", "demo": "octuplet_demo_terms"},
        settings=(
            Setting(
                "All", "all", "hhh, hll, lhh, lll",
                (99.55, 83.07, 90.72, 93.65, 94.46, 94.65, 91.31, 93.27),
            ),
            Setting(
                "hhh", "hhh", "high resolution alone",
                (99.42, 61.17, 78.77, 92.21, 94.77, 95.11, 84.40, 80.98),
            ),
            Setting(
                "hll", "hll", "high against low",
                (99.52, 79.93, 89.39, 93.57, 94.57, 94.64, 90.42, 92.15),
            ),
            Setting(
                "lhh", "lhh", "low against high",
                (99.48, 80.10, 89.48, 93.53, 94.56, 94.62, 90.46, 92.32),
            ),
            Setting(
                "lll", "lll", "low resolution alone",
                (98.95, 82.49, 88.80, 91.40, 92.21, 92.06, 89.39, 93.20),
            ),
            Setting("hll+lhh", "hll_lhh", "between the resolutions", (None,) * 8),
            Setting("hhh+lll", "hhh_lll", "each resolution alone", (None,) * 8),
            Setting("no lll", "no_lll", "hhh, hll, lhh", (None,) * 8),
            Setting("no hhh", "no_hhh", "hll, lhh, lll", (None,) * 8),
        ),
        columns=(
            "LFW", "7 px", "14 px", "28 px", "56 px", "112 px", "mean", "XQLFW",
        ),
        columns_text="LFW at 112 px; 7 to 112 px and mean: cross-resolution, averaged "
        "over LFW, CALFW, CPLFW, SLLFW, CFP-FF, CFP-FP and AgeDB; XQLFW. Of its rows "
        "with two and three terms no legible copy was at hand.",
        proposed="All",
        reference="hhh",
        claim="All four terms together are best in the mean (91.31); hhh alone gains "
        "nothing at low resolution (7 px 61.17), lll alone loses high resolution (112 "
        "px 92.06, all 94.65).",
        start={"demo": "octuplet_demo_start"},
        fine_tunes=True,
    ),
}  # fmt: skip
