"""Sets to judge a finished run on: `qface eval --config=NAME --checkpoint=RUN`.

Only the `eval` group of these is read; give the folder of the files with
--config.eval.path=DIR.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from qface_jax.configs import adaface, base


def lfw_family() -> ConfigDict:
    """Returns LFW, AgeDB-30, CFP-FP, CALFW and CPLFW as insightface packs them."""
    config = base.get_config()
    config.eval.sets = adaface.LFW_FAMILY
    config.eval.batch_size = 256
    return config


def scface() -> ConfigDict:
    """Returns SCface: mugshots against frames at three distances."""
    config = base.get_config()
    config.eval.protocol = "scface"
    config.eval.sets = ("SCface_database",)
    config.eval.batch_size = 256
    return config


def xqlfw() -> ConfigDict:
    """Returns XQLFW: pairs of photographs that differ in quality."""
    config = base.get_config()
    config.eval.protocol = "xqlfw"
    config.eval.sets = ("xqlfw",)
    config.eval.batch_size = 256
    return config


def ijbb() -> ConfigDict:
    """Returns IJB-B, 1:1 and 1:N, as insightface packs it."""
    config = base.get_config()
    config.eval.protocol = "ijbb"
    config.eval.sets = ("IJBB",)
    config.eval.batch_size = 256
    return config


def ijbc() -> ConfigDict:
    """Returns IJB-C, 1:1 and 1:N, as insightface packs it."""
    config = base.get_config()
    config.eval.protocol = "ijbc"
    config.eval.sets = ("IJBC",)
    config.eval.batch_size = 256
    return config


def tinyface() -> ConfigDict:
    """Returns TinyFace on the copies aligned by AdaFace's authors, as it is published.

    DIR holds tinyface/ and aligned_pad_0.1_pad_high/.
    """
    config = base.get_config()
    config.eval.protocol = "tinyface"
    config.eval.sets = ("aligned",)
    config.eval.batch_size = 256
    return config


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
    config = base.get_config()
    config.eval.protocol = "survface"
    config.eval.sets = ("all",)
    config.eval.batch_size = 256
    config.eval.resize = "stretch"
    return config


CONFIGS: dict[str, Callable[[], ConfigDict]] = {
    "eval_lfw_family": lfw_family,
    "eval_scface": scface,
    "eval_xqlfw": xqlfw,
    "eval_ijbb": ijbb,
    "eval_ijbc": ijbc,
    "eval_survface": survface,
    "eval_tinyface": tinyface,
    "eval_tinyface_raw": tinyface_raw,
}
