"""The range of each value of a config."""

import itertools
import math
from collections.abc import Callable
from typing import Any

Rule = tuple[Callable[[Any], bool], str]

POSITIVE: Rule = (lambda v: 0 < v < math.inf, "must be > 0 and finite")
FINITE: Rule = (math.isfinite, "must be finite")
NOT_NEGATIVE: Rule = (lambda v: 0 <= v < math.inf, "must be >= 0 and finite")
SEED: Rule = (lambda v: 0 <= v < 2**31, "must be within 0 .. 2^31 - 1")
RADIANS: Rule = (lambda v: 0 <= v < math.pi, "must be within [0, pi)")
SHARE: Rule = (lambda v: 0 <= v <= 1, "must be within [0, 1]")
BELOW_ONE: Rule = (lambda v: 0 <= v < 1, "must be within [0, 1)")
SHARES: Rule = (
    lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1,
    "must be (low, high) within (0, 1]",
)
ASPECTS: Rule = (
    lambda v: len(v) == 2 and 0 < v[0] <= v[1] < math.inf,
    "must be (low, high), both > 0",
)
SIDES: Rule = (
    lambda v: len(v) > 0 and all(isinstance(r, int) and 1 <= r <= 112 for r in v),
    "must be sides in px within 1..112",
)
SIGMAS: Rule = (
    lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 28,
    "must be (low, high) in px within (0, 28]",
)
FACTORS: Rule = (
    lambda v: len(v) == 2 and 0 <= v[0] <= v[1] < math.inf,
    "must be (low, high), both >= 0 and finite",
)
DEGREES: Rule = (lambda v: 0 <= v <= 180, "must be within 0 .. 180")
QUALITIES: Rule = (
    lambda v: len(v) == 2 and 1 <= v[0] <= v[1] <= 100,
    "must be (low, high) within 1..100",
)
DTYPES: Rule = (
    lambda v: v in ("float32", "bfloat16"),
    "must be float32 or bfloat16",
)
METRICS: Rule = (
    lambda v: v in ("euclidean", "cosine"),
    "must be euclidean or cosine",
)
OCTUPLET_METRICS: Rule = (
    lambda v: v in ("euclidean", "euclidean_squared", "cosine"),
    "must be euclidean, euclidean_squared or cosine",
)
OCTUPLET_TERMS: Rule = (
    lambda v: (
        len(v) > 0 and len(set(v)) == len(v) and set(v) <= {"hhh", "hll", "lhh", "lll"}
    ),
    "must be one or more of hhh, hll, lhh, lll, each once",
)
COLOURS: Rule = (
    lambda v: len(v) == 3 and all(math.isfinite(x) for x in v),
    "must be three finite numbers: R, G, B",
)
POSITIVE_COLOURS: Rule = (
    lambda v: COLOURS[0](v) and all(x > 0 for x in v),
    "must be three finite numbers > 0: R, G, B",
)
INCREASING: Rule = (
    lambda v: all(a < b for a, b in itertools.pairwise(v)),
    "must increase",
)

RULES: dict[str, Rule] = {
    "seed": SEED,
    "total_steps": POSITIVE,
    "epochs": POSITIVE,
    "model.embedding_dim": POSITIVE,
    "model.dropout": BELOW_ONE,
    "model.dtype": DTYPES,
    "model.batch_norm_groups": NOT_NEGATIVE,
    "model.input_mean": COLOURS,
    "model.input_std": POSITIVE_COLOURS,
    "model.color_order": (lambda v: v in ("RGB", "BGR"), "must be RGB or BGR"),
    "loss.scale": POSITIVE,
    "loss.sphereface.margin": (lambda v: v >= 1, "must be >= 1"),
    "loss.cosface.margin": SHARE,
    "loss.arcface.margin": RADIANS,
    "loss.curricularface.margin": RADIANS,
    "loss.curricularface.ema_new_weight": SHARE,
    "loss.magface.l_a": POSITIVE,
    "loss.magface.l_margin": RADIANS,
    "loss.magface.u_margin": RADIANS,
    "loss.magface.lambda_g": NOT_NEGATIVE,
    "loss.adaface.margin": SHARE,
    "loss.adaface.concentration": NOT_NEGATIVE,
    "loss.adaface.ema_new_weight": SHARE,
    "qgface.threshold": SHARE,
    "qgface.concentration": NOT_NEGATIVE,
    "qgface.ema_new_weight": SHARE,
    "qgface.queue_size": NOT_NEGATIVE,
    "qgface.encoder_decay": BELOW_ONE,
    "qgface.scale": POSITIVE,
    "qgface.weight": NOT_NEGATIVE,
    "qgface.chunk": POSITIVE,
    "octuplet.metric": OCTUPLET_METRICS,
    "octuplet.margin": NOT_NEGATIVE,
    "octuplet.terms": OCTUPLET_TERMS,
    "octuplet.keep_high_weight": NOT_NEGATIVE,
    "octuplet.keep_low_weight": NOT_NEGATIVE,
    "recognizability.index_weight": NOT_NEGATIVE,
    "recognizability.diversion_weight": NOT_NEGATIVE,
    "recognizability.attention_weight": NOT_NEGATIVE,
    "recognizability.smooth_l1_beta": POSITIVE,
    "recognizability.epsilon": POSITIVE,
    "recognizability.threshold": FINITE,
    "recognizability.diversion_moves": (
        lambda v: v in ("both", "features"),
        "must be both or features",
    ),
    "recognizability.index_of": (
        lambda v: v in ("features", "unit"),
        "must be features or unit",
    ),
    "recognizability.regression_dropout": BELOW_ONE,
    "recognizability.reduction": POSITIVE,
    "recognizability.kernel_side": (
        lambda v: v > 0 and v % 2 == 1,
        "must be odd and > 0",
    ),
    "recognizability.attention_error": (
        lambda v: v in ("mean", "sum"),
        "must be mean or sum",
    ),
    "recognizability.ui_images": (lambda v: v >= 2, "must be >= 2"),
    "recognizability.refresh_interval": POSITIVE,
    "recognizability.probe_images": NOT_NEGATIVE,
    "classifier.centres": (
        lambda v: v in ("random", "class_means"),
        "must be random or class_means",
    ),
    "classifier.chunk": POSITIVE,
    "classifier.dtype": DTYPES,
    "classifier.pad_to": POSITIVE,
    "classifier.sample_rate": (lambda v: 0 < v <= 1, "must be within (0, 1]"),
    "data.more_paths": (all, "must be paths; () is none"),
    "data.batch_size": POSITIVE,
    "data.drop_small_identities": NOT_NEGATIVE,
    "data.workers": NOT_NEGATIVE,
    "data.resize": (
        lambda v: v in ("crop", "stretch"),
        "must be crop or stretch",
    ),
    "data.synthetic.identities": POSITIVE,
    "data.synthetic.seed": SEED,
    "data.synthetic.images_per_identity": POSITIVE,
    "degrade.clean.flip_probability": SHARE,
    "degrade.adaface.flip_probability": SHARE,
    "degrade.adaface.crop_probability": SHARE,
    "degrade.adaface.crop_area": SHARES,
    "degrade.adaface.crop_aspect": ASPECTS,
    "degrade.adaface.rescale_probability": SHARE,
    "degrade.adaface.rescale_side": SHARES,
    "degrade.adaface.photometric_probability": SHARE,
    "degrade.adaface.photometric_strength": SHARE,
    "degrade.resolution.flip_probability": SHARE,
    "degrade.resolution.probability": SHARE,
    "degrade.resolution.sides": SIDES,
    "degrade.resolution.jpeg_probability": SHARE,
    "degrade.resolution.jpeg_quality": QUALITIES,
    "degrade.octuplet.flip_probability": SHARE,
    "degrade.octuplet.brightness": SHARE,
    "degrade.octuplet.saturation": SHARE,
    "degrade.octuplet.sides": SIDES,
    "degrade.octuplet.jpeg_probability": SHARE,
    "degrade.octuplet.jpeg_quality": QUALITIES,
    "degrade.qgface.flip_probability": SHARE,
    "degrade.qgface.rescale_probability": SHARE,
    "degrade.qgface.rescale_side": SHARES,
    "degrade.qgface.jpeg_probability": SHARE,
    "degrade.qgface.jpeg_quality": QUALITIES,
    "degrade.qgface.crop_probability": SHARE,
    "degrade.qgface.crop_area": SHARES,
    "degrade.qgface.crop_aspect": ASPECTS,
    "degrade.qgface.photometric_probability": SHARE,
    "degrade.qgface.photometric_strength": SHARE,
    "degrade.qgface.rotation_probability": SHARE,
    "degrade.qgface.rotation_degrees": DEGREES,
    "degrade.recognizability.flip_probability": SHARE,
    "degrade.recognizability.rotation_probability": SHARE,
    "degrade.recognizability.rotation_degrees": DEGREES,
    "degrade.recognizability.rescale_probability": SHARE,
    "degrade.recognizability.rescale_sides": SIDES,
    "degrade.recognizability.low_probability": SHARE,
    "degrade.recognizability.low_sides": SIDES,
    "degrade.recognizability.jpeg_probability": SHARE,
    "degrade.recognizability.jpeg_quality": QUALITIES,
    "degrade.unrecognizable.flip_probability": SHARE,
    "degrade.unrecognizable.shrink_probability": SHARE,
    "degrade.unrecognizable.sides": SIDES,
    "degrade.unrecognizable.blur_probability": SHARE,
    "degrade.unrecognizable.blur_sigma": SIGMAS,
    "degrade.unrecognizable.occlusion_probability": SHARE,
    "degrade.unrecognizable.occlusion_area": SHARES,
    "degrade.unrecognizable.occlusion_aspect": ASPECTS,
    "degrade.unrecognizable.brightness_probability": SHARE,
    "degrade.unrecognizable.brightness": FACTORS,
    "optim.learning_rate": POSITIVE,
    "optim.weight_decay": NOT_NEGATIVE,
    "optim.momentum": BELOW_ONE,
    "optim.b1": BELOW_ONE,
    "optim.b2": BELOW_ONE,
    "optim.eps": POSITIVE,
    "optim.accumulation_steps": POSITIVE,
    "optim.clip_norm": POSITIVE,
    "optim.warmup_steps": NOT_NEGATIVE,
    "optim.warmup_epochs": NOT_NEGATIVE,
    "optim.decay_steps": INCREASING,
    "optim.decay_epochs": INCREASING,
    "optim.decay_factor": POSITIVE,
    "optim.power": POSITIVE,
    "optim.end_factor": SHARE,
    "eval.interval": NOT_NEGATIVE,
    "eval.resolutions": (
        lambda v: SIDES[0](v) and len(set(v)) == len(v) and 112 in v,
        "must be different sides in px within 1..112, and 112 among them",
    ),
    "eval.folds": (lambda v: v >= 2, "must be >= 2"),
    "eval.metric": METRICS,
    "eval.batch_size": POSITIVE,
    "eval.discard_fmr": (lambda v: 0 < v < 1, "must be within (0, 1)"),
    "eval.synthetic.identities": (lambda v: v >= 2, "must be >= 2"),
    "eval.synthetic.pairs": POSITIVE,
    "eval.synthetic.seed": SEED,
    "checkpoint.interval": POSITIVE,
    "checkpoint.keep": POSITIVE,
    "log.interval": POSITIVE,
}
