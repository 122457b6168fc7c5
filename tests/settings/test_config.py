import json

import pytest

from qface_jax import options
from qface_jax.configs import base, document
from qface_jax.errors import ConfigError
from qface_jax.settings import config as configs
from qface_jax.settings import rules


def test_every_shipped_config_is_valid():
    names = configs.shipped()
    assert {"demo", "adaface_r18_lfw", "adaface_r50_ms1mv2"} <= set(names)
    assert len(names) >= 17
    for name in names:
        drawn = names[name]().data.source == "synthetic"
        overrides = [] if drawn else ["--config.data.path=somewhere"]
        assert configs.load(name, overrides).is_locked


CLASSIFIED = {"objective": "classification"}
ALONE = {"qgface.queue": "none"}


@pytest.mark.parametrize("family", ["qgface", "qgface_demo"])
@pytest.mark.parametrize(
    ("setting", "changes"),
    [
        ("baseline", CLASSIFIED | {"degrade.recipe": "clean"}),
        ("a", CLASSIFIED | {"degrade.recipe": "adaface"}),
        ("b", ALONE | {"degrade.recipe": "adaface", "qgface.views": 1}),
        ("b_two_views", ALONE | {"degrade.recipe": "adaface"}),
        ("c", {"degrade.recipe": "adaface"}),
        ("d", ALONE | {"qgface.partition": "none"}),
        ("d_one_view", CLASSIFIED),
        ("e", {}),
        ("queue_none", ALONE),
        ("queue_batch", {"qgface.queue": "batch"}),
        ("queue_momentum", {"qgface.queue": "momentum"}),
        ("threshold_none", {"qgface.partition": "none"}),
        ("threshold_01", {"qgface.threshold": 0.1}),
        ("threshold_03", {"qgface.threshold": 0.3}),
    ],
)
def test_settings_of_qgface_differ_in_what_its_tables_vary(family, setting, changes):
    shipped = configs.shipped()
    proposed = dict(document.flatten(shipped[f"{family}_e"]()))
    found = dict(document.flatten(shipped[f"{family}_{setting}"]()))
    assert {path: found[path] for path in found if found[path] != proposed[path]} == (
        changes
    )


def test_the_proposed_setting_of_qgface_is_the_papers():
    proposed = dict(document.flatten(configs.shipped()["qgface_e"]()))
    assert proposed.items() >= {
        "objective": "qgface", "degrade.recipe": "qgface", "qgface.queue": "proxy",
        "qgface.partition": "min", "qgface.threshold": 0.2, "qgface.scale": 64.0,
        "qgface.queue_size": 0, "loss.margin": "adaface", "loss.scale": 64.0,
        "loss.adaface.margin": 0.4, "model.backbone": "ir_34", "data.batch_size": 512,
        "epochs": 12.0, "optim.name": "sgd", "optim.learning_rate": 0.2,
        "optim.momentum": 0.9, "optim.weight_decay": 5e-4, "optim.schedule": "step",
        "optim.decay_epochs": (6.0, 9.0), "optim.decay_factor": 0.1,
    }.items()  # fmt: skip
    demo = dict(document.flatten(configs.shipped()["demo"]()))
    small = dict(document.flatten(configs.shipped()["qgface_demo_e"]()))
    changed = {path for path in demo if demo[path] != small[path]}
    assert changed == {"objective", "degrade.recipe"}


def test_three_wrong_keys_are_reported_at_once():
    words = [
        "--config.optim.learning_rte=3",
        "--config.model.dropout=2",
        "--config.data.batch_size=many",
    ]
    with pytest.raises(ConfigError) as error:
        configs.load("demo", words)
    text = str(error.value)
    assert "3 problem(s)" in text
    assert "optim.learning_rte: unknown key (did you mean optim.learning_rate?)" in text
    assert "model.dropout: got 2.0, must be within [0, 1)" in text
    assert "data.batch_size: got 'many', expected int" in text


@pytest.mark.parametrize(
    ("word", "path", "value"),
    [
        ("--config.optim.learning_rate=1", ("optim", "learning_rate"), 1.0),
        ("--config.optim.clip_norm=5", ("optim", "clip_norm"), 5.0),
        ("--config.optim.clip_norm=None", ("optim", "clip_norm"), None),
        ("--config.model.remat=true", ("model", "remat"), True),
        ("--config.eval.resolutions=112", ("eval", "resolutions"), (112,)),
        ("--config.eval.sets=('a.bin','b.bin')", ("eval", "sets"), ("a.bin", "b.bin")),
        ("--config.eval.sets=a.bin", ("eval", "sets"), ("a.bin",)),
        ("--config.eval.path=7", ("eval", "path"), "7"),
    ],
)
def test_overrides_take_the_type_of_the_key(word, path, value):
    config = configs.load("demo", [word])
    got = config[path[0]][path[1]]
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("--config.model.remat=1", "model.remat: got 1, expected bool"),
        ("--config.total_steps=1.5", "total_steps: got 1.5, expected int"),
        ("--config.model.backbone=vgg", "model.backbone: got 'vgg', must be one of"),
        ("--config.loss.margin=sphere", "loss.margin: got 'sphere', must be one of"),
        ("--config.optim.warmup_steps=9000", "optim.warmup_steps: got 9000, must be <"),
        ("--config.data.source=mxnet", "data.path: got ''"),
        ("--config.data.path=faces", "but data.source synthetic reads no path"),
        ("--config.degrade.adaface.crop_area=(0.5,0.2)", "must be (low, high)"),
        ("--config.eval.resolutions=(56,14)", "and 112 among them"),
        ("--config.eval.resolutions=(112,112)", "must be different sides"),
        ("--config.degrade.resolution.sides=(0,)", "must be sides in px"),
        ("--config.optim.decay_steps=abc", "optim.decay_steps: got ('abc',), expected"),
        ("--config.degrade.adaface.crop_area=('a',1)", "crop_area: got ('a', 1), exp"),
        ("--config.eval.sets=1", "eval.sets: got (1,), expected tuple"),
        ("--config.seed=-1", "seed: got -1, must be within 0"),
        ("--config.optim.learning_rate=1e999", "must be > 0 and finite"),
        ("--config.degrade.adaface.crop_aspect=(0,0)", "crop_aspect: got (0, 0)"),
        ("--config.optim.schedule=step", "step needs decay_steps"),
        ("--config.loss=3", "loss: unknown key"),
        ("--config.seed", "expected --config.key=value"),
    ],
)
def test_what_is_wrong_is_said(word, says):
    with pytest.raises(ConfigError, match="problem") as error:
        configs.load("demo", [word])
    assert says in str(error.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"did you mean demo\? qface train"):
        configs.load("dmo")
    with pytest.raises(ConfigError, match=r"there is no file .*missing\.py"):
        configs.load("missing.py")


def test_a_config_file_by_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from qface_jax.configs import base\n"
        "def get_config():\n"
        "    config = base.get_config()\n"
        "    config.total_steps = 7\n"
        "    config.modle = 3\n"
        "    config.optim.lr = 'x'\n"
        "    return config\n"
    )
    with pytest.raises(ConfigError) as error:
        configs.load(str(path))
    assert "modle: unknown key" in str(error.value)
    assert "optim.lr: unknown key" in str(error.value)
    path.write_text(path.read_text().replace("config.modle = 3", "config.seed = 'x'"))
    with pytest.raises(ConfigError, match="cannot be casted"):
        configs.load(str(path))
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match=r"has no get_config"):
        configs.load(str(tmp_path / "empty.py"))


def test_json_round_trip_and_differences():
    config = configs.load("adaface_r18_lfw", ["--config.data.path=x"])
    text = json.dumps(document.to_dict(config))
    again = document.from_dict(json.loads(text))
    assert document.differences(config, again) == []
    assert document.digest(config) == document.digest(again)
    other = configs.override(config, ["--config.seed=5"])
    assert document.differences(config, other) == ["seed: was 0, now 5"]
    assert document.digest(other) != document.digest(config)
    assert config.seed == 0


def test_every_default_fits_its_own_option():
    for path, option in options.flatten(base.keys()).items():
        # Shipped defaults need no path: those of sources are checked with a config.
        assert option.wrong_type(option.default) is None, path
        assert option.wrong_value(option.default) is None, path
        assert option.text, path


def test_sizes_must_be_cut_over_the_devices():
    config = configs.load("demo", ["--config.data.batch_size=60"])
    sizes = rules.TRAINING_SIZES
    assert rules.device_problems(config, sizes, 1, 1) == []
    assert rules.device_problems(config, ("eval.batch_size",), 8, 2) == []
    (problem,) = rules.device_problems(config, sizes, 8, 2)
    assert problem.startswith("data.batch_size: got 60, must be a multiple of the 8")


def test_steps_that_epochs_replace_are_refused():
    word = "--config.total_steps=150"
    with pytest.raises(ConfigError, match="total_steps: has no effect while epochs is"):
        configs.load("adaface_r18_lfw", [word])
    nothing = ("epochs", "optim.warmup_epochs")
    words = [word, "--config.data.path=x", *(f"--config.{key}=None" for key in nothing)]
    assert configs.load("adaface_r18_lfw", words).total_steps == 150
