"""Every key of a config: its default, type, range, unit and meaning in one place.

What is named in a table (`qface_jax.tables`) declares its own keys beside its code;
they are put together here: `loss.<margin>`, `<objective>`, `model.<backbone>`,
`data.<source>`, `degrade.<recipe>`, `eval.<protocol>` and `eval.<quality score>`. Those
of a user's own, named as `module:object`, are at `own.<kind>`.
"""

import functools
from collections.abc import Iterable

from ml_collections import ConfigDict

from qface_jax import options
from qface_jax.options import (
    AT_LEAST_TWO,
    BELOW_ONE,
    COLOURS,
    INCREASING,
    INSIDE_ZERO_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_COLOURS,
    SEED,
    SHARE,
    SIDES,
    Group,
    Option,
    Rule,
    one_of,
)
from qface_jax.tables import (
    BACKBONES,
    INIT_FROM,
    MARGINS,
    OBJECTIVES,
    PROTOCOLS,
    QUALITY_SCORES,
    RECIPES,
    SOURCES,
    Table,
)

DTYPES = one_of("float32", "bfloat16")
OPTIMIZERS = ("sgd", "adam", "adamw", "adagrad")
SCHEDULES = ("constant", "step", "cosine", "polynomial")
# Kind of a user's own entries -> the table that they are entries of.
OWN = {
    "margin": MARGINS,
    "objective": OBJECTIVES,
    "backbone": BACKBONES,
    "source": SOURCES,
    "degradation": RECIPES,
    "protocol": PROTOCOLS,
    "quality_score": QUALITY_SCORES,
}


def get_config() -> ConfigDict:
    """Returns the complete config; a key that is not here does not exist."""
    return options.defaults(keys())


@functools.cache
def keys() -> Group:
    """Returns the option of every key, nested as the config is."""
    return {
        "seed": Option(0, SEED, "Every random draw of a run follows from it."),
        "total_steps": Option(1000, POSITIVE, "Optimizer updates; see `epochs`."),
        "epochs": Option(
            None, POSITIVE,
            "Passes over the training set. Where set, it replaces total_steps, and the "
            "schedule's *_steps keys must be given as *_epochs.",
            float,
        ),
        "model": _model(),
        "objective": Option(
            "classification", _named_in(OBJECTIVES),
            "What is minimised: classification of one view of each image; qgface, the "
            "joint training of two views; octuplet, the fine-tuning of a model with "
            "pairs of images of each identity in two views; siamese, classification of "
            "two views whose features are kept close; recognizability, which also "
            "learns how recognisable a face is.",
        ),
        "loss": _loss() | _of_entries(MARGINS),
        **_of_entries(OBJECTIVES),
        "classifier": _classifier(),
        "data": _data() | _of_entries(SOURCES),
        "degrade": {
            "recipe": Option(
                "adaface", _named_in(RECIPES),
                "What degrades the training images. A recipe of pairs draws both views "
                "of an image.",
            ),
            "on": Option(
                "host", one_of("host", "device"),
                "Where: host, by the input pipeline; or device, within the training "
                "step, so that hosts only decode. Both draw from the same "
                "distributions, but not the same numbers. Not every recipe has a form "
                "for the device.",
            ),
            **_of_entries(RECIPES),
        },
        "optim": _optim(),
        "eval": _eval() | _of_entries(PROTOCOLS) | _of_entries(QUALITY_SCORES),
        "checkpoint": {
            "interval": Option(
                500, POSITIVE,
                "Updates between checkpoints; the last step is always saved.",
            ),
            "keep": Option(2, POSITIVE, "Most recent checkpoints that are kept."),
            "fall_back": Option(
                False, None,
                "Where the newest checkpoint is damaged, go on from the one before, "
                "with a warning, and move the damaged one to RUN/damaged; False: stop.",
            ),
        },
        "log": {
            "interval": Option(50, POSITIVE, "Updates between log lines."),
            "pictures": Option(
                True, None,
                "Draw training images, evaluation images and the margin's gradient "
                "scaling term at the first step, and the worst pairs at each "
                "evaluation, into RUN/samples, for the report; TensorBoard shows them "
                "and the report's figures, too.",
            ),
            "csv": Option(
                True, None, "Also write the scalars as a table, RUN/metrics.csv."
            ),
            "quality_images": Option(
                0, NOT_NEGATIVE,
                "Of so many training images, degraded as for training, log how feature "
                "norm and probability of the own class correlate with the image "
                "quality 1 - BRISQUE, before the first step, every eval.interval "
                "updates and after the last; their values are kept in RUN/quality and "
                "drawn into RUN/samples. 0: none; AdaFace's Fig. 4 has 1,534.",
            ),
        },
        "own": {kind: {} for kind in OWN},
    }  # fmt: skip


def _of_entries(table: Table) -> Group:
    """The options of each entry of a table that has any, by its name."""
    groups = {name: table[name].options for name in table}
    return {name: group for name, group in groups.items() if group or table is MARGINS}


def _named_in(table: Table, more: Iterable[str] = ()) -> Rule:
    """The rule that a value names something in an open table."""
    names = ", ".join(sorted((*table, *more)))
    return Rule(
        lambda value: value in table or value in more,
        f"must be one of {names}, or module:object for your own",
    )


def _all_named_in(table: Table) -> Rule:
    return Rule(
        lambda value: all(name in table for name in value),
        f"must be names of {', '.join(sorted(table))}, or module:object for your own",
    )


def _model() -> Group:
    group = {
        "backbone": Option(
            "iresnet18", _named_in(BACKBONES, (INIT_FROM,)),
            "The network. init_from: that of the run given by --init-from.",
        ),
        "embedding_dim": Option(512, POSITIVE, "d, length of a feature."),
        "dropout": Option(
            0.0, BELOW_ONE, "Probability before the last linear layer."
        ),
        "dtype": Option("float32", DTYPES, "Of the arithmetic of the backbone."),
        "remat": Option(
            False, None, "Recompute activations in the backward pass: less memory."
        ),
        "batch_norm_groups": Option(
            1, NOT_NEGATIVE,
            "Equal parts of the batch, each normalised by its own statistics: 1 is the "
            "whole batch, 0 as many as devices (each its own images, nothing is "
            "exchanged).",
        ),
        "freeze_batch_norm": Option(
            False, None,
            "Normalise by the running statistics, which then stay as they are; scales "
            "and biases still learn. For fine-tuning.",
        ),
        "graph": Option(
            "", None, "Backbone onnx: the packed graph, from `qface import`."
        ),
        "input_mean": Option(
            (127.5, 127.5, 127.5), COLOURS,
            "What the backbone takes is (pixel - mean) / std of pixels 0..255, in the "
            "order R, G, B. Another convention comes with an imported model.",
        ),
        "input_std": Option(
            (127.5, 127.5, 127.5), POSITIVE_COLOURS, "See input_mean."
        ),
        "color_order": Option(
            "RGB", one_of("RGB", "BGR"), "Of the channels that the backbone takes."
        ),
    }  # fmt: skip
    # The graph of an imported network is an option of its backbone, and a key above.
    entries = _of_entries(BACKBONES)
    return group | {
        name: more for name, more in entries.items() if not set(more) <= set(group)
    }


def _loss() -> Group:
    return {
        "margin": Option(
            "adaface", _named_in(MARGINS),
            "The margin function; only the group of the chosen one is read.",
        ),
        "scale": Option(64.0, POSITIVE, "s, factor on the cosines."),
    }  # fmt: skip


def _classifier() -> Group:
    return {
        "chunk": Option(
            8192, POSITIVE, "Classes per step of the streamed logits, per device."
        ),
        "sample_rate": Option(
            1.0, Rule(lambda v: 0 < v <= 1, "must be within (0, 1]"),
            "Partial FC: share of the classes that a step sees besides those of its "
            "batch; 1.0 sees all. Worth it where the classes outweigh the backbone, "
            "from about a million.",
        ),
        "centres": Option(
            "random", one_of("random", "class_means"),
            "Class centres of a new run: random, or class_means, the mean unit feature "
            "of each class in the model that training starts from.",
        ),
        "pad_to": Option(
            512, POSITIVE, "The rows of the centre matrix are a multiple of this."
        ),
        "dtype": Option(
            "float32", DTYPES,
            "Of the stored centres and their momentum; bfloat16 takes half the memory "
            "(sgd only). The arithmetic is float32.",
        ),
    }  # fmt: skip


def _data() -> Group:
    return {
        "source": Option(
            "synthetic", _named_in(SOURCES),
            "Where training images come from; auto: it is seen from data.path.",
        ),
        "path": Option("", None, "Folder or file of the source."),
        "more_paths": Option(
            (), Rule(all, "must be paths; () is none"),
            "More of the same source; the identities of each are taken to be different "
            "people.",
            str,
        ),
        "batch_size": Option(
            64, Rule(lambda v: 0 < v <= 2**20, "must be within 1 .. 2^20"),
            "Images per step over all devices.",
        ),
        "subset": Option(
            1.0, Rule(lambda v: 0 < v <= 1, "must be within (0, 1]"),
            "Random share of the training set that is taken; 1.0 is all.",
        ),
        "subset_of": Option(
            "images", one_of("images", "identities"),
            "What the share is of: images, whosever they are (an identity that has "
            "none left is gone); or identities, each with all its images.",
        ),
        "subset_seed": Option(
            0, SEED, "Of that draw alone: runs of other `seed` take the same share."
        ),
        "drop_small_identities": Option(
            0, NOT_NEGATIVE,
            "Leave out identities with fewer images, counted in the subset.",
        ),
        "skip_broken": Option(
            False, None,
            "Leave out records that are no picture when they are met, and count them; "
            "another image of the same identity is taken.",
        ),
        "resize": Option(
            "crop", one_of("crop", "stretch"),
            "How images of another size become 112 px: crop, the short side to 112 "
            "(bilinear) and the middle; or stretch, the whole image (bicubic).",
        ),
        "workers": Option(
            0, Rule(lambda v: 0 <= v <= 1024, "must be within 0 .. 1024"),
            "Decoding threads; 0: TensorFlow decides.",
        ),
    }  # fmt: skip


def _optim() -> Group:
    return {
        "name": Option("sgd", one_of(*OPTIMIZERS), "The optimizer."),
        "learning_rate": Option(
            0.1, POSITIVE, "Peak learning rate, at the global batch size."
        ),
        "rate_factors": Option(
            (), None,
            "PATTERN=FACTOR: the learning rate of the parameters whose path begins so "
            "(a regular expression; the first that fits counts) is multiplied; 0: they "
            "stay as they are. As in ('backbone/layer[12]_=0', 'backbone/fc=10'). The "
            "statistics of batch norms are no parameters: model.freeze_batch_norm "
            "keeps those.",
            str,
        ),
        "weight_decay": Option(
            5e-4, NOT_NEGATIVE, "Not on biases, norms and PReLU slopes."
        ),
        "momentum": Option(0.9, BELOW_ONE, "Of sgd."),
        "b1": Option(0.9, BELOW_ONE, "Of adam and adamw."),
        "b2": Option(0.999, BELOW_ONE, "Of adam and adamw."),
        "eps": Option(1e-8, POSITIVE, "Of adam, adamw and adagrad, outside the root."),
        "initial_accumulator": Option(
            0.1, NOT_NEGATIVE,
            "Of adagrad, what the sum of squared gradients starts from: 0.1 in "
            "TensorFlow, 0 in PyTorch.",
        ),
        "accumulation_steps": Option(
            1, POSITIVE,
            "Parts that the backbone takes a batch in, one after another: less memory, "
            "more time (its forward pass is done twice). Batch norm's statistics are "
            "then those of a part; the loss sees all parts.",
        ),
        "clip_norm": Option(
            None, POSITIVE, "Norm that the gradient is clipped to; None: none.", float
        ),
        "schedule": Option("cosine", one_of(*SCHEDULES), "Of the learning rate."),
        "warmup_steps": Option(0, NOT_NEGATIVE, "Updates; linear from 0."),
        "warmup_epochs": Option(
            None, NOT_NEGATIVE, "The same in epochs, where `epochs` is set.", float
        ),
        "decay_steps": Option(
            (), INCREASING,
            "Schedule step: updates after which the learning rate falls.",
        ),
        "decay_epochs": Option(
            (), INCREASING, "The same in epochs, where `epochs` is set."
        ),
        "decay_factor": Option(0.1, POSITIVE, "Schedule step: factor of each fall."),
        "power": Option(2.0, POSITIVE, "Of the schedule polynomial."),
        "end_factor": Option(
            0.0, SHARE,
            "Schedules cosine and polynomial: last learning rate as a share of the "
            "peak.",
        ),
    }  # fmt: skip


def _eval() -> Group:
    return {
        "interval": Option(
            0, NOT_NEGATIVE,
            "Updates between evaluations; 0: after the last one only.",
        ),
        "before": Option(
            False, None,
            "Also evaluate the model that training starts from, for the report to "
            "compare with.",
        ),
        "protocol": Option(
            "verification", _named_in(PROTOCOLS),
            "Protocol of the benchmarks in `sets` that name none.",
        ),
        "path": Option("", None, "Folder that the files of `sets` lie in; '': this."),
        "sets": Option(
            ("synthetic",), Rule(all, "must be names of benchmarks; () is none"),
            "Benchmarks: SET, or PROTOCOL=SET. A set of protocol verification is "
            "'synthetic', a .bin file, 'pairs.txt::image folder', agedb_30, cfp_ff or "
            "cfp_fp.",
            str,
        ),
        "quality_scores": Option(
            (), _all_named_in(QUALITY_SCORES),
            "Quality scores besides those that the model brings.",
            str,
        ),
        "resolutions": Option(
            (112, 56, 28, 14, 7),
            Rule(
                lambda v: SIDES.holds(v) and len(set(v)) == len(v) and 112 in v,
                "must be different sides in px within 1..112, and 112 among them",
            ),
            "Sides, in px, that images are degraded to.",
        ),
        "flip": Option(True, None, "Add the feature of the mirror image."),
        "folds": Option(
            10,
            Rule(lambda v: v == 0 or v >= 2, "must be >= 2, or 0"),
            "Contiguous folds of the cross-validated accuracy; 0: those that the set "
            "is published with, else 10.",
        ),
        "max_pairs": Option(
            0, NOT_NEGATIVE,
            "Pairs of each set of protocol verification that are evaluated at most, "
            "evenly spread, as many of one person as of two from each fold, the same "
            "in each evaluation; 0: all.",
        ),
        "metric": Option(
            "euclidean", one_of("euclidean", "cosine"), "Distance of two embeddings."
        ),
        "batch_size": Option(
            128, Rule(lambda v: 0 < v <= 2**16, "must be within 1 .. 2^16"),
            "Images embedded together, all devices.",
        ),
        "antialias": Option(True, None, "In the down-sampling."),
        "keep_features": Option(
            True, None,
            "qface eval writes the features of benchmarks to RUN/features, where the "
            "next evaluation of the same images reads them.",
        ),
        "resize": Option(
            "", one_of("", "crop", "stretch"),
            "Of pictures that are not 112 px, without landmarks; '': as data.resize.",
        ),
        "discard_fmr": Option(
            0.01, INSIDE_ZERO_ONE,
            "False match rate of all pairs at which error-versus-discard curves start.",
        ),
        "best_metric": Option(
            "", Rule(lambda v: not set(v) & set(" ()[]{},'\""), "must be one name"),
            "Scalar of the first benchmark's result that picks the best checkpoint; "
            "'': its first headline, mean_cross of protocol verification.",
        ),
        "synthetic": {
            "identities": Option(60, AT_LEAST_TWO, "People of the set 'synthetic'."),
            "pairs": Option(600, POSITIVE, "Pairs of the set 'synthetic'."),
            "seed": Option(1, SEED, "Another seed than of the training images."),
        },
    }  # fmt: skip
