import json

import pytest

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


@pytest.mark.parametrize("number", [3, 0, "two"])
def test_a_run_of_an_unknown_format_is_refused_with_its_version(run, number):
    def of_the_future(content):
        content |= {"format": number, "versions": {"qface-jax": "9.8.7"}}
        content["config"]["loss"] = {"unheard": "of"}

    rewrite(run, of_the_future)
    with pytest.raises(ConfigError) as refused:
        run_folder.read(run)
    assert "\n" not in str(refused.value)
    for part in (f"is of format {number},", "qface-jax 9.8.7;", "reads formats 1 to 2"):
        assert part in str(refused.value)
