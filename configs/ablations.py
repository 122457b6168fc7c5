"""The tables of the papers that `qface ablation` trains again: one entry each."""

from typing import NamedTuple


class Setting(NamedTuple):
    """A row of a table.

    Attributes:
        label: What the paper calls it.
        config: End of its config's name.
        text: What it is, in a few words.
        paper: The paper's numbers, percent, in the order of `Ablation.columns`.
    """

    label: str
    config: str
    text: str
    paper: tuple[float, ...]


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
    """

    title: str
    families: dict[str, str]
    settings: tuple[Setting, ...]
    columns: tuple[str, ...]
    columns_text: str
    proposed: str
    reference: str
    claim: str


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
}  # fmt: skip
