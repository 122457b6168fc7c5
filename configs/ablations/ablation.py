"""What a table consists of that `qface ablation` trains again."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

# The papers' sets of high quality, as results name them.
HQ_SETS = ("lfw", "agedb_30", "cfp_fp", "cplfw", "calfw")


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
