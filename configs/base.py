"""Every key of a config, with its unit and default; each experiment changes some."""

from ml_collections import ConfigDict, config_dict

from qface_jax.configs.degradation import degradation

# Lists of texts although the default is empty, which says nothing.
TEXTS = frozenset({"data.more_paths", "optim.rate_factors"})


def get_config() -> ConfigDict:
    """Returns the complete config; a key that is not here does not exist."""
    config = ConfigDict()
    config.seed = 0  # every random draw of a run follows from it
    config.total_steps = 1000  # optimizer updates; see `epochs`
    # Passes over the training set; when set, it replaces total_steps, and the
    # schedule's *_steps keys must be given as *_epochs.
    config.epochs = config_dict.placeholder(float)

    config.model = ConfigDict()
    config.model.backbone = "iresnet18"  # a key of qface_jax.models.BACKBONES
    # or init_from: the model of the run given by --init-from
    config.model.embedding_dim = 512  # d, length of a feature
    config.model.dropout = 0.0  # probability before the last linear layer
    config.model.dtype = "float32"  # of the compute: float32 or bfloat16
    config.model.remat = False  # recompute activations in the backward pass
    # Equal parts of the batch, each normalised by its own statistics: 1 is the whole
    # batch, 0 as many as devices (each its own images, nothing is exchanged).
    config.model.batch_norm_groups = 1
    # Normalise by the running statistics, which then stay as they are; scales and
    # biases still learn. For fine-tuning.
    config.model.freeze_batch_norm = False
    config.model.graph = ""  # backbone onnx: the packed graph, from `qface import`
    # What the backbone takes: (pixel - mean) / std of pixels 0..255, each in the order
    # R, G, B. Another convention comes with an imported model.
    config.model.input_mean = (127.5, 127.5, 127.5)
    config.model.input_std = (127.5, 127.5, 127.5)
    config.model.color_order = "RGB"  # or BGR: of the channels that the backbone takes

    # A key of train.objectives.OBJECTIVES: classification of one view of each image,
    # qgface, the joint training of two views, octuplet, the fine-tuning of a model with
    # pairs of images of each identity in two views, or recognizability, which also
    # learns how recognisable a face is.
    config.objective = "classification"

    config.loss = ConfigDict()
    config.loss.margin = "adaface"  # a key of qface_jax.losses.margin.MARGINS
    config.loss.scale = 64.0  # s
    # One group per margin function; only the chosen one is read.
    config.loss.softmax = ConfigDict()
    config.loss.sphereface = ConfigDict({"margin": 1.7})
    config.loss.cosface = ConfigDict({"margin": 0.35})
    config.loss.arcface = ConfigDict(
        {"margin": 0.5, "threshold": False}  # threshold: CosFace-like beyond pi
    )
    config.loss.curricularface = ConfigDict({"margin": 0.5, "ema_new_weight": 0.01})
    config.loss.magface = ConfigDict(
        {
            "l_a": 10.0,  # norm at which the margin is l_margin
            "u_a": 110.0,  # norm at which the margin is u_margin
            "l_margin": 0.45,
            "u_margin": 0.8,
            "lambda_g": 20.0,  # weight of the norm regulariser
        }
    )
    config.loss.adaface = ConfigDict(
        {
            "margin": 0.4,  # m
            "concentration": 0.333,  # h
            "ema_new_weight": 0.01,  # the paper's 1 - alpha
        }
    )
    config.loss.combined = ConfigDict(
        {
            "m1": 1.0,  # factor on the angle
            "m2": 0.0,  # added to the angle
            "m3": 0.4,  # taken off the cosine
            # Cosine above which a negative is dropped as mislabelled; None: off.
            "filter_threshold": config_dict.placeholder(float),
        }
    )

    config.qgface = ConfigDict()  # read with objective qgface
    # Quality u of a pair: min, mean or max of its two views. Views with u > threshold
    # are classified, pairs with u <= threshold contrasted. none: all are both.
    config.qgface.partition = "min"
    config.qgface.threshold = 0.2  # b, on u within [0, 1]
    config.qgface.concentration = 0.333  # h of u
    config.qgface.ema_new_weight = 0.01  # of the norm statistics of u
    # What a degraded view is told apart from: proxy (earlier features, moved with their
    # class centres), momentum (keys of an averaged encoder), batch (this step's
    # features); none: there is no contrastive loss.
    config.qgface.queue = "proxy"
    config.qgface.queue_size = 0  # slots; 0: as many as identities
    config.qgface.encoder_decay = 0.999  # momentum: of the averaged encoder, per step
    config.qgface.supervised_mask = True  # the own identity is no negative
    config.qgface.scale = 64.0  # s of the contrastive loss
    config.qgface.weight = 1.0  # of the contrastive loss
    config.qgface.chunk = 8192  # slots compared at a time, per device

    config.octuplet = ConfigDict()  # read with objective octuplet
    config.octuplet.metric = "euclidean"  # euclidean, euclidean_squared or cosine
    config.octuplet.margin = 25.0  # m, in units of the metric
    # Views (h: high, l: low resolution) of anchor, positive and negative of each term.
    config.octuplet.terms = ("hhh", "hll", "lhh", "lll")
    config.octuplet.normalize = False  # features to length 1 first; cosine always does
    # Beyond the paper: weights of the squared distance of the features from those of
    # the original images in the model that training started from, as a share of their
    # squared length; of the originals, and of the views at low resolution.
    config.octuplet.keep_high_weight = 0.0
    config.octuplet.keep_low_weight = 0.0

    config.recognizability = _recognizability()

    config.classifier = ConfigDict()
    config.classifier.chunk = 8192  # classes per step of the stream, per device
    # Partial FC: share of the classes that a step sees besides those of its batch; 1.0
    # sees all. Worth it where the classes outweigh the backbone, from about a million.
    config.classifier.sample_rate = 1.0
    # What the class centres of a new run are: random, or class_means, the mean unit
    # feature of each class in the model that training starts from.
    config.classifier.centres = "random"
    config.classifier.pad_to = 512  # rows of the centre matrix: a multiple of this
    # Of the stored centres and their momentum: float32, or bfloat16 at half the memory
    # (sgd only). The arithmetic is float32.
    config.classifier.dtype = "float32"

    config.data = ConfigDict()
    config.data.source = "synthetic"  # a key of data_pipelines.sources.SOURCES
    config.data.path = ""  # folder or file of the source
    # More of the same source; the identities of each are taken to be different people.
    config.data.more_paths = ()
    config.data.batch_size = 64  # images per step over all devices
    config.data.drop_small_identities = 0  # leave out identities with fewer images
    # How pictures of another size than 112 px become that: crop, short side to 112
    # (bilinear) and the middle; or stretch, the whole picture (bicubic).
    config.data.resize = "crop"
    config.data.synthetic = ConfigDict(
        {"identities": 200, "images_per_identity": 20, "seed": 0}
    )
    config.data.workers = 0  # decode threads; 0: TensorFlow decides

    config.degrade = degradation()  # every key: configs/degradation.py

    config.optim = ConfigDict()
    config.optim.name = "sgd"  # sgd, adamw, adam, adagrad
    config.optim.learning_rate = 0.1  # peak, at the global batch size
    # PATTERN=FACTOR: the rate of the parameters whose path begins so (a regular
    # expression; the first that fits counts) is multiplied; 0: they stay as they are.
    # As in ("backbone/layer[12]_=0", "backbone/fc=10"). Batch norms' statistics are no
    # parameters: model.freeze_batch_norm keeps those.
    config.optim.rate_factors = ()
    config.optim.weight_decay = 5e-4  # not on biases, norms and PReLU slopes
    config.optim.momentum = 0.9  # sgd
    config.optim.b1 = 0.9  # adam, adamw
    config.optim.b2 = 0.999  # adam, adamw
    config.optim.eps = 1e-8  # adam, adamw, adagrad
    # Parts that the backbone takes a batch in, one after another: less memory, more
    # time (its forward pass is done twice). Batch norm's statistics are then those of
    # a part; the loss sees all parts.
    config.optim.accumulation_steps = 1
    config.optim.clip_norm = config_dict.placeholder(float)  # None: no clipping
    config.optim.schedule = "cosine"  # constant, step, cosine, polynomial
    config.optim.warmup_steps = 0  # linear from 0
    config.optim.warmup_epochs = config_dict.placeholder(float)
    config.optim.decay_steps = ()  # step: updates after which the rate falls
    config.optim.decay_epochs = ()
    config.optim.decay_factor = 0.1  # step
    config.optim.power = 2.0  # polynomial
    config.optim.end_factor = 0.0  # cosine, polynomial: last rate / peak

    config.eval = ConfigDict()
    config.eval.interval = 0  # updates between evaluations; 0: after the last only
    # Also the model that training starts from, for the report to compare with.
    config.eval.before = False
    config.eval.protocol = "verification"  # of sets that name none
    config.eval.path = ""  # folder that files of `sets` lie in; "": this one
    # What is evaluated, SET or PROTOCOL=SET; for verification SET is "synthetic", a
    # .bin file, or "pairs.txt::image folder".
    config.eval.sets = ("synthetic",)
    config.eval.resolutions = (112, 56, 28, 14, 7)  # px
    config.eval.flip = True  # add the mirror image's feature
    config.eval.folds = 10
    config.eval.metric = "euclidean"  # or cosine
    config.eval.batch_size = 128
    config.eval.antialias = True  # in the down-sampling
    # False match rate of all pairs at which error-versus-discard curves start.
    config.eval.discard_fmr = 0.01
    # Scalar of the first set that picks the best checkpoint; "": its protocol's choice.
    config.eval.best_metric = "mean_cross"

    config.eval.synthetic = ConfigDict({"identities": 60, "pairs": 600, "seed": 1})

    config.checkpoint = ConfigDict()
    config.checkpoint.interval = 500  # updates; the last one is always saved
    config.checkpoint.keep = 2  # most recent ones

    config.log = ConfigDict()
    config.log.interval = 50  # updates between log lines
    return config


def _recognizability() -> ConfigDict:
    """Every key of the group that is read with objective recognizability."""
    group = ConfigDict()
    # Of the terms beside margin softmax, alpha, beta, gamma; at gamma 0 there is no
    # attention module, and the last feature map is not looked at.
    group.index_weight = 5.0
    group.diversion_weight = 2.0
    group.attention_weight = 1.0
    group.smooth_l1_beta = 0.75  # error at which it turns straight
    # Readings: the paper's values, or its choice, are not at hand.
    group.epsilon = 0.01  # in xi = d_ui d_neg / (d_pos + epsilon)
    group.threshold = 1.0  # tau, deviations above UIs' mean index
    # What the diversion moves: the features alone, so that the index stays what the
    # distances say it is; or both. Then it rose for all images together in the runs
    # that were tried, until it told nothing.
    group.diversion_moves = "features"
    group.index_of = "features"  # regressed from these, or unit ones
    group.regression_dropout = 0.9  # before the regression
    group.reduction = 16  # of channels inside the channel attention
    group.kernel_side = 7  # of the spatial attention, map pixels
    group.attention_error = "mean"  # over the d places; or sum
    # Unrecognizable images (UIs), whose centre all is measured from: a folder or file
    # of them; "": made from training images by degrade.unrecognizable.
    group.ui_path = ""
    group.ui_images = 512  # at most so many, spread evenly
    # Updates after which the UIs are embedded again; also of the rank correlations of
    # the scores with the resolution, which are logged then. The UIs move with the
    # model, so that what is known of them ages.
    group.refresh_interval = 20
    group.probe_images = 16  # for those, at each of eval.resolutions
    return group
