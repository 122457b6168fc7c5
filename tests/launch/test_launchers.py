"""The scripts that start a run on many hosts: sound, alike, and true to qface train."""

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from qface_jax.launch import main
from qface_jax.processes import hosts

ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "launch"
SCRIPTS = [*sorted(LAUNCH.glob("*.sh")), LAUNCH / "slurm.sbatch", ROOT / ".ci" / "run"]
SCHEMA = json.loads((Path(__file__).parent / "jobset_schema.json").read_text())
JOBSET = yaml.safe_load((LAUNCH / "jobset.yaml").read_text(encoding="utf-8"))
TRAIN = [
    "qface",
    "train",
    "--config=adaface_r50_webface4m",
    "--config.data.path=$QFACE_DATA",
    "--workdir=$QFACE_RUN",
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound(script):
    tool = Path(sys.executable).parent / "shellcheck"
    checks = [
        ["bash", "-n", str(script)],
        [str(tool), "--external-sources", "--source-path=SCRIPTDIR", str(script)],
    ]
    for check in checks:
        done = subprocess.run(check, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def container():
    job = JOBSET["spec"]["replicatedJobs"][0]["template"]["spec"]
    return job["template"]["spec"]["containers"][0]


def train_lines(text):
    """Words of every `qface train --config=adaface...` in a script or a text."""
    text = re.sub(r"\\\n#?", " ", text)  # continued lines, also those of comments
    for found in re.finditer(r"qface train --config=adaface.*", text):
        words = shlex.split(found[0])
        yield words[: words.index("$@")] if "$@" in words else words


def launched():
    """Where -> words of a train line there; Kubernetes' variables as the shell's."""
    lines = {"jobset.yaml": [re.sub("[()]", "", w) for w in container()["command"]]}
    for name in ("local.sh", "slurm.sbatch", "tpu_vm.sh", "README.md"):
        found = list(train_lines((LAUNCH / name).read_text(encoding="utf-8")))
        assert found, name
        lines |= {f"{name} {number}": words for number, words in enumerate(found)}
    return lines


def test_all_launch_the_same_training():
    for name, words in launched().items():
        assert words[: len(TRAIN)] == TRAIN, name


@pytest.mark.parametrize("name", launched())
def test_qface_train_understands_each_line(name, capsys):
    words = [re.sub(r"\$\w+", "1", word) for word in launched()[name]]
    assert main._parse(words[1:])[0] == "train"
    with pytest.raises(SystemExit):
        main.main(["train", "--help"])
    shown = re.findall(r"--[\w-]+", capsys.readouterr().out)
    for word in words[2:]:
        flag = word.split("=")[0]
        assert flag in shown or flag.startswith("--config."), flag


def test_the_readme_speaks_of_each_launcher():
    text = (LAUNCH / "README.md").read_text(encoding="utf-8")
    for name in ("local.sh", "slurm.sbatch", "tpu_vm.sh", "jobset.yaml"):
        assert re.search(rf"^## .*`{name}`", text, re.MULTILINE), name


def test_the_jobset_is_of_its_api():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(JOBSET, SCHEMA)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "maxRestarts"), 3),
        (("spec", "failurePolicy", "rules", 0, "action"), "Fail"),
        (("spec", "failurePolicy", "rules", 0, "name"), "with spaces"),
        (("spec", "replicatedJobs", 0, "template", "spec", "completionmode"), "A"),
        (("metadata", "name"), "Q_Face"),
    ],
)
def test_the_schema_finds_mistakes(path, value):
    broken = copy.deepcopy(JOBSET)
    place = broken
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_the_jobset_agrees_with_itself():
    (replicated,) = JOBSET["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    flags = dict(word.split("=", 1) for word in container()["command"][2:])
    assert replicated["replicas"] == 1
    assert job["completions"] == job["parallelism"] == int(flags["--processes"])
    assert flags["--process"] == "$(JOB_COMPLETION_INDEX)"
    assert job["completionMode"] == "Indexed"
    name = JOBSET["metadata"]["name"]
    host, port = flags["--coordinator"].split(":")
    assert host == f"{name}-{replicated['name']}-0-0.{name}"
    ports = [entry["containerPort"] for entry in container()["ports"]]
    assert ports == [int(port), int(port) + 1]
    mounted = {mount["name"] for mount in container()["volumeMounts"]}
    volumes = job["template"]["spec"]["volumes"]
    assert mounted == {volume["name"] for volume in volumes}


def test_the_jobset_starts_again_what_was_lost_and_not_what_failed():
    (replicated,) = JOBSET["spec"]["replicatedJobs"]
    job = replicated["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["containerName"] == container()["name"]
    given_up = rule["onExitCodes"]["values"]
    assert given_up == [main.EXIT_FAULT, main.EXIT_ERROR]
    assert hosts.EXIT_LOST not in given_up
    policy = JOBSET["spec"]["failurePolicy"]
    (answer,) = policy["rules"]  # whatever no rule names starts again
    assert answer["action"] == "FailJobSet"
    assert answer["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert policy["maxRestarts"] > 0
    assert job["backoffLimit"] == 0
