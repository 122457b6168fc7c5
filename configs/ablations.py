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
        mean_sets: Test sets that its mean is over, as results name them; no mean is
            shown unless all runs have all of them. Empty: there is no mean.
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
    mean_sets: tuple[str, ...] = ()


QGFACE_FAMILIES = {"paper": "qgface", "demo": "qgface_demo"}
QGFACE_COLUMNS = ("SCface d1", "d2", "d3", "TinyFace", "IJB-B", "HQ avg.")
HQ_SETS = ("lfw", "agedb_30", "cfp_fp", "cplfw", "calfw")
QGFACE_COLUMNS_TEXT = (
    "SCface at 4.2, 2.6 and 1.0 m and TinyFace: rank-1; IJB-B: TAR at FAR 1e-4; HQ "
    "avg.: accuracy averaged over LFW, AgeDB-30, CFP-FP, CPLFW and CALFW at 112 px, "
    "which --size=paper measures too; the others by `qface eval --config=eval_qgface`."
)
OCTUPLET_COLUMNS = (
    "LFW",
    "7 px",
    "14 px",
    "28 px",
    "56 px",
    "112 px",
    "mean",
    "XQLFW",
)
OCTUPLET_SETS = ("lfw", "calfw", "cplfw", "pair_SLLFW", "cfp_ff", "cfp_fp", "agedb_30")
OCTUPLET_COLUMNS_TEXT = (
    "LFW at 112 px; 7 to 112 px and mean: cross-resolution, averaged over LFW, CALFW, "
    "CPLFW, SLLFW, CFP-FF, CFP-FP and AgeDB; XQLFW. "
)
_ALL = (99.55, 83.07, 90.72, 93.65, 94.46, 94.65, 91.31, 93.27)
# Tables II and III have each of the five, too.
QGFACE_COLUMNS_OF_SETS = (*QGFACE_COLUMNS, "LFW", "CFP-FP", "AgeDB", "CPLFW", "CALFW")
_E = (92.31, 99.54, 100.0, 69.85, 91.05, 95.43)
_E_OF_SETS = (*_E, 99.50, 96.03, 94.00, 94.48, 93.12)

# How the rows of Octuplet's Table 4, upper part, were told apart.
_TICKS_TEXT = (
    "The ticks are garbled in the copy at hand, the numbers are not. Of the rows with "
    "two terms the copy has two ticks each for hll and lhh and one for lll, hence hhh "
    "in three; of those with three, three each. Rows with hhh but not lll are best at "
    "high resolution, the one without hhh is worst there, and each group is in the "
    "order of its ticks, as the rows with one term are. By that order alone stand "
    "hhh+hll against hhh+lhh, and no lhh against no hll. "
)

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
                "B", "b", "A, partition, one view",
                (68.15, 98.46, 100.0, 67.03, 70.45, 95.73),
            ),
            Setting(
                "C", "c", "A, partition, contrastive",
                (70.92, 98.62, 99.69, 66.58, 90.59, 95.71),
            ),
            Setting(
                "D", "d", "QGFace's augmentation, two views",
                (88.62, 99.23, 100.0, 68.80, 89.50, 95.46),
            ),
            Setting("E", "e", "D, partition, contrastive", _E),
        ),
        columns=QGFACE_COLUMNS,
        columns_text=QGFACE_COLUMNS_TEXT,
        mean_sets=HQ_SETS,
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
                (
                    87.85, 99.38, 100.0, 68.24, 90.57, 95.47,
                    99.45, 96.00, 94.20, 94.67, 93.05,
                ),
            ),
            Setting(
                "Batch", "queue_batch", "this batch's features",
                (
                    87.54, 99.38, 100.0, 68.67, 87.38, 95.28,
                    99.55, 95.96, 94.38, 93.85, 92.68,
                ),
            ),
            Setting(
                "Momentum", "queue_momentum", "keys of an averaged encoder",
                (
                    63.08, 97.85, 99.85, 62.34, 88.70, 95.18,
                    99.55, 96.03, 93.98, 94.65, 91.68,
                ),
            ),
            Setting("Proxy", "e", "proxy-updated features (setting E)", _E_OF_SETS),
        ),
        columns=QGFACE_COLUMNS_OF_SETS,
        columns_text=QGFACE_COLUMNS_TEXT,
        mean_sets=HQ_SETS,
        proposed="Proxy",
        reference="No",
        claim="Proxy is best on low and mixed quality and 0.04 below No on high "
        "quality; Momentum is below No in the averages and at low "
        "quality, but not on LFW (99.55, No 99.45) and CFP-FP (96.03, No 96.00).",
    ),
    "qgface3": Ablation(
        title="QGFace Table III: threshold of the quality partition",
        families=QGFACE_FAMILIES,
        settings=(
            Setting(
                "No", "threshold_none", "both losses of all samples",
                (
                    90.77, 99.69, 100.0, 69.80, 91.26, 95.08,
                    99.58, 95.79, 93.95, 93.42, 92.67,
                ),
            ),
            Setting(
                "0.1", "threshold_01", "threshold 0.1",
                (
                    86.00, 99.54, 100.0, 68.13, 90.87, 95.41,
                    99.53, 95.87, 94.33, 94.47, 92.83,
                ),
            ),
            Setting("0.2", "e", "threshold 0.2 (setting E)", _E_OF_SETS),
            Setting(
                "0.3", "threshold_03", "threshold 0.3",
                (
                    88.92, 99.54, 100.0, 68.51, 89.33, 94.95,
                    99.55, 95.03, 94.27, 93.77, 92.15,
                ),
            ),
        ),
        columns=QGFACE_COLUMNS_OF_SETS,
        columns_text=QGFACE_COLUMNS_TEXT,
        mean_sets=HQ_SETS,
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
                _ALL,
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
            Setting(
                "hhh+hll", "hhh_hll", "high, and high against low",
                (99.57, 79.60, 89.50, 93.93, 95.19, 95.18, 90.68, 91.93),
            ),
            Setting(
                "hhh+lhh", "hhh_lhh", "high, and low against high",
                (99.58, 79.42, 89.75, 93.97, 95.11, 95.14, 90.68, 92.18),
            ),
            Setting(
                "hhh+lll", "hhh_lll", "each resolution alone",
                (99.57, 81.66, 90.05, 93.66, 94.65, 94.84, 90.97, 92.77),
            ),
            Setting(
                "hll+lhh", "hll_lhh", "between the resolutions",
                (99.45, 80.51, 89.90, 93.52, 94.48, 94.54, 90.59, 92.55),
            ),
            Setting(
                "no lll", "no_lll", "hhh, hll, lhh",
                (99.58, 80.60, 90.11, 93.94, 94.97, 94.94, 90.91, 92.55),
            ),
            Setting(
                "no lhh", "no_lhh", "hhh, hll, lll",
                (99.50, 82.92, 90.72, 93.70, 94.52, 94.60, 91.29, 93.30),
            ),
            Setting(
                "no hll", "no_hll", "hhh, lhh, lll",
                (99.37, 82.49, 90.35, 93.58, 94.47, 94.56, 91.09, 93.48),
            ),
            Setting(
                "no hhh", "no_hhh", "hll, lhh, lll",
                (99.20, 83.09, 90.62, 93.18, 93.93, 93.95, 90.96, 93.42),
            ),
        ),
        columns=OCTUPLET_COLUMNS,
        columns_text=f"{OCTUPLET_COLUMNS_TEXT}{_TICKS_TEXT}",
        mean_sets=OCTUPLET_SETS,
        proposed="All",
        reference="hhh",
        claim="All four terms together are best in the mean (91.31); hhh alone gains "
        "nothing at low resolution (7 px 61.17), lll alone loses high resolution (112 "
        "px 92.06, all 94.65).",
        start={"demo": "octuplet_demo_start"},
        fine_tunes=True,
    ),
    "octuplet4metric": Ablation(
        title="Octuplet Table 4, lower part: distance and normalisation",
        families={"paper": "octuplet_metrics", "demo": "octuplet_demo_metrics"},
        settings=(
            Setting("Euclidean", "euclidean", "margin 25", _ALL),
            Setting(
                "Euclidean, unit", "euclidean_unit", "unit features, margin 0.5",
                (None,) * 8,
            ),
            Setting("squared", "squared", "margin 625", (None,) * 8),
            Setting(
                "squared, unit", "squared_unit", "unit features, margin 1",
                (99.63, 80.08, 89.63, 93.83, 95.11, 95.24, 90.78, 93.58),
            ),
            Setting(
                "cosine", "cosine", "margin 0.5",
                (99.58, 79.57, 88.85, 93.70, 94.92, 95.03, 90.41, 93.27),
            ),
        ),
        columns=OCTUPLET_COLUMNS,
        columns_text=f"{OCTUPLET_COLUMNS_TEXT}The table's ticks are illegible in "
        "the copy at hand. The text names the squared distance of unit features, best "
        "at 28 to 112 px, and cosine, the bottom row. Which of (99.60, 79.53, 88.64, "
        "93.59, 94.80, 94.95, 90.30, 93.27) and (99.53, 81.36, 89.75, 93.55, 94.61, "
        "94.71, 90.80, 93.23) is Euclidean, unit and which is squared stays open. "
        "Margins but the first are ours: the paper does not give them.",
        mean_sets=OCTUPLET_SETS,
        proposed="Euclidean",
        reference="cosine",
        claim="The Euclidean distance is best at low resolution (7 px 83.07, cosine "
        "79.57), the squared distance of unit features at 28 to 112 px and on XQLFW.",
        start={"demo": "octuplet_demo_start"},
        fine_tunes=True,
    ),
}  # fmt: skip
