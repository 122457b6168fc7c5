import json

import pytest

from qface_jax import options
from qface_jax.configs import document
from qface_jax.errors import ConfigError
from qface_jax.runs import run_folder
from support.small_run import small


@pytest.fixture
def run(tmp_path):
    run_folder.open_or_create(
        tmp_path / "run", small(), num_classes=12, data={"images": 48}
    )
    return tmp_path / "run"


def rewrite(run, change):
    file = run / run_folder.CONFIG
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def test_a_run_states_its_format(run):
    content = json.loads((run / run_folder.CONFIG).read_text())
    assert content["format"] == run_folder.FORMAT == 2
    assert "format" not in run_folder.read(run).facts


def test_a_run_without_a_format_number_is_read(run):
    rewrite(run, lambda content: content.pop("format"))
    old = run_folder.read(run)
    assert document.differences(old.config, small()) == []
    assert (old.num_classes, old.facts["data"]) == (12, {"images": 48})


@pytest.mark.parametrize("number", [3, 0, 10**400, None, True, 1.5, "two", [], {}])
def test_a_run_of_an_unknown_format_is_refused_with_its_version(run, number):
    def of_the_future(content):
        content |= {"format": number, "versions": {"qface-jax": "9.8.7"}}
        content["config"]["loss"] = {"unheard": "of"}

    rewrite(run, of_the_future)
    with pytest.raises(ConfigError) as refused:
        run_folder.read(run)
    assert "\n" not in str(refused.value)
    shown = options.shown(number)
    for part in (f"is of format {shown},", "qface-jax 9.8.7;", "reads formats 1 to 2"):
        assert part in str(refused.value)


def nested(levels):
    return "[" * levels + "]" * levels


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "3", '"text"', "{", "{}", nested(10**5), '{"config": NaN',
     '{"num_classes": 1' + "0" * 5000 + "}"],
)  # fmt: skip
def test_a_file_that_is_no_config_is_refused(run, text):
    (run / run_folder.CONFIG).write_text(text)
    with pytest.raises(
        ConfigError, match=r"config\.json: is no run's config"
    ) as refused:
        run_folder.read(run)
    assert len(str(refused.value)) < 1000


def test_other_encodings_are_refused(run):
    (run / run_folder.CONFIG).write_bytes(b'{"config": "\xff"}')
    with pytest.raises(ConfigError, match="is no run's config"):
        run_folder.read(run)


WRONG = (None, [], {}, "12", "text", True, 1.5, -1, 1e12, 10**12, 10**400, [[1]])


@pytest.mark.parametrize("value", WRONG)
def test_a_number_of_classes_that_is_none_is_refused(run, value):
    rewrite(run, lambda content: content.update(num_classes=value))
    with pytest.raises(
        ConfigError, match=r"num_classes: got .* whole number from 1 to"
    ):
        run_folder.read(run)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("config", [None, [], "text", 3]),
        ("data", [None, [], "text", {}, {"images": "many"}, {"images": -1},
                  {"images": 1.5}, {"images": 9, "images_per_epoch": []}]),
        ("init_from", [3, [], {}, False]),
        ("config_digest", [None, 3]),
        ("code_folders", [None, "here", [3], {}]),
        ("color_order", ["BGR", None, 3]),
        ("versions", [None, [], {"jax": 3}]),
        ("commit", [3, []]),
        ("imported", [None, [], "text"]),
        ("started", [None, 3]),
    ],
)  # fmt: skip
def test_every_field_is_checked(run, field, values):
    for value in values:
        rewrite(run, lambda content, value=value: content.update({field: value}))
        with pytest.raises(ConfigError, match=f"{field}: got "):
            run_folder.read(run)


@pytest.mark.parametrize("field", ["config", "num_classes", "data", "init_from"])
def test_a_field_that_is_missing_is_named(run, field):
    rewrite(run, lambda content: content.pop(field))
    with pytest.raises(ConfigError, match=f"{field}: is missing"):
        run_folder.read(run)


def test_all_that_is_wrong_is_said_at_once(run):
    rewrite(run, lambda content: content.update(num_classes=-3, data=None))
    with pytest.raises(ConfigError, match=r"num_classes: got -3, .*; data: got None"):
        run_folder.read(run)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("model", None, "model: got None, expected a group"),
        ("model", "tiny", "model: got 'tiny', expected a group"),
        ("model", [1], r"model: got \[1\], expected a group"),
        ("model.backbone", None, "model.backbone: got None, expected str"),
        ("model.backbone", {"a": 1}, "model.backbone: got a group of 1, expected str"),
        ("model.backbone", "unheard", "model.backbone: got 'unheard', must be one of"),
        ("model.embedding_dim", "512", "model.embedding_dim: got '512', expected int"),
        ("model.embedding_dim", 1e12, "model.embedding_dim: got 1e.*12|10000.*, exp"),
        ("model.embedding_dim", -4, "model.embedding_dim: got -4, must be"),
        ("optim.learning_rate", 10**400, "optim.learning_rate: got 1.*must be within"),
        ("optim.learning_rate", [0.1], "optim.learning_rate: got .* expected float"),
        ("eval.sets", "lfw", "eval.sets: got 'lfw', expected tuple"),
        ("eval.sets", [["lfw"]], "eval.sets: got a nested list of 1, expected tuple"),
        ("eval.sets", [None], "eval.sets: got .*, expected tuple"),
        ("data.path", 3, "data.path: got 3, expected str"),
        ("unheard", 3, "unheard: unknown key"),
        ("__class__", "str", "__class__: unknown key"),
        ("model.__class__", {}, "model.__class__: unknown key"),
        ("own.margin.__class__", 3, "own.margin.__class__: got 3, expected a value"),
        ("own.margin.deep", {"a": {}}, "own.margin.deep: got a group of 1, expected"),
        ("own", [], r"own: got \[\], expected a group"),
    ],
)
def test_every_key_of_the_config_is_checked(run, path, value, says):
    def edit(content):
        *groups, key = path.split(".")
        group = content["config"]
        for name in groups:
            group = group[name]
        group[key] = value

    rewrite(run, edit)
    with pytest.raises(ConfigError, match=says) as refused:
        run_folder.read(run)
    assert str(run / run_folder.CONFIG) in str(refused.value)


def test_a_key_with_a_dot_is_no_path(run):
    rewrite(run, lambda content: content["config"].update({"model.backbone": "tiny"}))
    with pytest.raises(ConfigError, match=r"model\.backbone: unknown key"):
        run_folder.read(run)


def test_many_unknown_keys_are_counted(run):
    many = {f"{n}" * 300: n for n in range(100)}
    rewrite(run, lambda content: content["config"].update(many))
    with pytest.raises(ConfigError, match="and 80 more") as refused:
        run_folder.read(run)
    assert len(str(refused.value)) < 5000
