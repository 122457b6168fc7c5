"""Sets to judge a finished run on: `qface eval --config=NAME --checkpoint=RUN`.

Only the `eval` group of these is read; give the folder of the files with
--config.eval.path=DIR.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from qface_jax.configs import adaface, base


def lfw_family() -> ConfigDict:
    """Returns LFW, AgeDB-30, CFP-FP, CALFW and CPLFW as insightface packs them."""
    return _of(adaface.LFW_FAMILY)


def agedb_cfp() -> ConfigDict:
    """Returns AgeDB-30, CFP-FF and CFP-FP in the layouts of their authors.

    DIR holds AgeDB/ and cfp-dataset/. AgeDB is aligned by its own landmarks, CFP's
    photographs are not: `qface data align` places them.
    """
    config = _of(("agedb_30", "cfp_ff", "cfp_fp"))
    config.eval.folds = 0  # those of the lists
    return config


def scface() -> ConfigDict:
    """Returns SCface: mugshots against frames at three distances."""
    return _of(("SCface_database",), "scface")


def xqlfw() -> ConfigDict:
    """Returns XQLFW: pairs of photographs that differ in quality."""
    return _of(("xqlfw",), "xqlfw")


def ijbb() -> ConfigDict:
    """Returns IJB-B, 1:1 and 1:N, as insightface packs it."""
    return _of(("IJBB",), "ijbb")


def ijbc() -> ConfigDict:
    """Returns IJB-C, 1:1 and 1:N, as insightface packs it."""
    return _of(("IJBC",), "ijbc")


def tinyface() -> ConfigDict:
    """Returns TinyFace on the copies aligned by AdaFace's authors, as it is published.

    DIR holds tinyface/ and aligned_pad_0.1_pad_high/.
    """
    return _of(("aligned",), "tinyface")


def tinyface_raw() -> ConfigDict:
    """Returns TinyFace on the pictures as they are, resized as a whole.

    They are not aligned; results lie far below those of aligned copies.
    """
    config = tinyface()
    config.eval.sets = ("raw",)
    config.eval.resize = "stretch"
    return config


def survface() -> ConfigDict:
    """Returns QMUL-SurvFace, identification and verification.

    There are no landmarks: pictures are resized as a whole. DIR is QMUL-SurvFace/.
    """
    config = _of(("all",), "survface")
    config.eval.resize = "stretch"
    return config


def of_adaface() -> ConfigDict:
    """Returns the benchmarks of AdaFace's Tables 3 and 4, without IJB-S.

    DIR holds the five .bin files, IJBB/, IJBC/, tinyface/ and its aligned copies.
    """
    return _several(*adaface.LFW_FAMILY, "ijbb=IJBB", "ijbc=IJBC", "tinyface=aligned")


def of_qgface() -> ConfigDict:
    """Returns the benchmarks of QGFace: the LFW family, IJB-B, TinyFace, SCface.

    DIR holds the five .bin files, IJBB/, tinyface/, its aligned copies and
    SCface_database/.
    """
    return _several(
        *adaface.LFW_FAMILY, "ijbb=IJBB", "tinyface=aligned", "scface=SCface_database"
    )


def of_octuplet() -> ConfigDict:
    """Returns the benchmarks of the octuplet loss: the LFW family and XQLFW.

    DIR holds the .bin files, cfp_ff.bin among them, sllfw/pair_SLLFW.txt over lfw/, and
    xqlfw/.
    """
    lists = ("sllfw/pair_SLLFW.txt::lfw",)
    config = _several(*adaface.LFW_FAMILY, "cfp_ff.bin", *lists, "xqlfw=xqlfw")
    config.eval.metric = "cosine"
    config.eval.flip = False
    return config


def of_recognizability() -> ConfigDict:
    """Returns the benchmarks of the recognizability index, of very low resolution.

    DIR holds tinyface/ and its aligned copies, SCface_database/ and QMUL-SurvFace/.
    """
    return _several("tinyface=aligned", "scface=SCface_database", "survface=all")


def _several(*sets: str) -> ConfigDict:
    config = _of(sets)
    config.eval.resize = "stretch"  # of SurvFace; the others are aligned
    return config


def _of(sets: tuple[str, ...], protocol: str = "verification") -> ConfigDict:
    config = base.get_config()
    config.eval.protocol = protocol
    config.eval.sets = sets
    config.eval.batch_size = 256
    return config


CONFIGS: dict[str, Callable[[], ConfigDict]] = {
    "eval_lfw_family": lfw_family,
    "eval_agedb_cfp": agedb_cfp,
    "eval_scface": scface,
    "eval_xqlfw": xqlfw,
    "eval_ijbb": ijbb,
    "eval_ijbc": ijbc,
    "eval_survface": survface,
    "eval_tinyface": tinyface,
    "eval_tinyface_raw": tinyface_raw,
    "eval_adaface": of_adaface,
    "eval_qgface": of_qgface,
    "eval_octuplet": of_octuplet,
    "eval_recognizability": of_recognizability,
}
