"""Published sizes of the well-known training and verification sets."""

from pathlib import Path
from typing import NamedTuple


class KnownSet(NamedTuple):
    """One published training set; None where no count is published."""

    name: str
    identities: int
    images: int | None
    folder_words: tuple[str, ...]  # parts of the names its folder usually has


# Counts of the configs of insightface/arcface_torch, AdaFace and CVLface.
KNOWN_SETS = (
    KnownSet("CASIA-WebFace", 10_572, 490_623, ("casia", "faces_webface")),
    KnownSet("VGGFace2", 9_131, None, ("vgg2", "vggface2", "faces_vgg")),
    KnownSet("MS1MV2", 85_742, 5_822_653, ("ms1mv2", "faces_emore")),
    KnownSet("MS1MV3", 93_431, 5_179_510, ("ms1mv3", "ms1m-retinaface")),
    KnownSet("Glint360K", 360_232, 17_091_657, ("glint360k",)),
    KnownSet("WebFace4M", 205_990, 4_235_242, ("webface4m",)),
    KnownSet("WebFace12M", 617_970, 12_720_066, ("webface12m",)),
    KnownSet("WebFace42M", 2_059_906, 42_474_557, ("webface42m",)),
)

# Pairs of the `.bin` files that insightface ships, by the name of the file.
KNOWN_PAIR_COUNTS = {
    "lfw": 6000,
    "agedb_30": 6000,
    "calfw": 6000,
    "cplfw": 6000,
    "cfp_fp": 7000,
    "cfp_ff": 7000,
}
# Pairs of the text lists that do not say it themselves, by the name of the file.
KNOWN_LIST_COUNTS = {"pair_SLLFW": 6000, "pairs_CALFW": 6000, "pairs_CPLFW": 6000}
KNOWN_FOLDS = 10  # of each of them


def compare_with_known(
    path: str, identities: int, images: int
) -> tuple[str | None, list[str]]:
    """Finds the published set that data is, or seems to be but is not.

    A set is recognised by the name of its folder, or by one of its two counts.

    Args:
        path: where the data lies.
        identities: counted there.
        images: counted there.

    Returns:
        The name of the set whose counts fit, None without; and one sentence per set
        that the data resembles without having its counts.
    """
    folders = "/".join(Path(path).parts[-3:]).lower()
    mismatches = []
    for known in KNOWN_SETS:
        same_identities = known.identities == identities
        same_images = known.images is not None and known.images == images
        if same_identities and (same_images or known.images is None):
            return known.name, []
        named = any(word in folders for word in known.folder_words)
        if same_identities or same_images or named:
            published = f"{known.identities:,} identities"
            if known.images is not None:
                published += f" and {known.images:,} images"
            mismatches.append(
                f"looks like {known.name}, which has {published}, but here are "
                f"{identities:,} identities and {images:,} images"
            )
    return None, mismatches
