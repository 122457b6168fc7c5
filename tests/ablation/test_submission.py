"""qface ablation and launch/ablation.sh, with stand-ins for the training."""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qface_jax.configs.ablations import ABLATIONS
from qface_jax.launch import main
from qface_jax.launch.commands import ablation
from qface_jax.runs import run_folder
from qface_jax.settings import config as configs
from support.ablation_runs import write_run
from support.installed import install

ROOT = Path(__file__).parents[2]
ACCURACIES = {112: 0.9, 14: 0.7, 7: 0.6}


@pytest.fixture(autouse=True)
def outside_git(monkeypatch):
    monkeypatch.setattr(run_folder, "commit", lambda: None)  # 0.1 s a run


class Trainer(ablation.Children):
    """Takes the words and leaves behind what a training does."""

    heard, statuses = (), ()

    def run(self, words):
        type(self).heard += (words,)
        status = dict(self.statuses).get(len(self.heard), 0)
        if not status and "data" in words:
            Path(words[-1]).mkdir()
        elif not status:
            _, _, _, _, name, folder, *overrides = words
            config = configs.load(name.removeprefix("--config="), overrides)
            write_run(Path(folder.removeprefix("--workdir=")), config, ACCURACIES)
        return status


@pytest.fixture
def trainer(monkeypatch):
    """The stand-in that every command of the test runs."""
    monkeypatch.setattr(Trainer, "heard", ())
    monkeypatch.setattr(ablation, "Children", Trainer)
    return Trainer


def qface(workdir, *words, table="qgface1"):
    return main.main(["ablation", table, f"--workdir={workdir}", *words])


def trained(trainer):
    """Names of the runs that were trained, in order."""
    words = [heard for heard in trainer.heard if "train" in heard]
    return [Path(heard[5].removeprefix("--workdir=")).name for heard in words]


@pytest.mark.parametrize("table", ABLATIONS.values(), ids=ABLATIONS)
def test_the_tables_agree_with_the_configs_and_themselves(table):
    known = configs.shipped()
    for family in table.families.values():
        for setting in table.settings:
            assert f"{family}_{setting.config}" in known
    labels = [setting.label for setting in table.settings]
    assert len({label.lower() for label in labels}) == len(labels)
    assert {table.proposed, table.reference} <= set(labels)
    assert {len(setting.paper) for setting in table.settings} == {len(table.columns)}


def test_a_run_is_a_qface_train(tmp_path, trainer):
    faces = tmp_path / "faces-300x30-seed0"
    assert qface(
        tmp_path, "--only=A", "--seeds=4", "--config.log.interval=7"
    ) == 0  # fmt: skip
    drawing, training = trainer.heard
    assert drawing == [
        sys.executable, "-m", "qface_jax.launch.main", "data", "import",
        "--source=synthetic", "--seed=0", "300x30", str(faces),
    ]  # fmt: skip
    assert training == [
        sys.executable, "-m", "qface_jax.launch.main", "train",
        "--config=qgface_demo_a", f"--workdir={tmp_path / 'qgface_demo_a-seed4'}",
        "--config.seed=4", "--config.log.interval=7",
        "--config.data.source=array_record", f"--config.data.path={faces}",
    ]  # fmt: skip


def test_the_papers_size_takes_the_given_data(tmp_path, trainer):
    given = ["--config.data.path=/vgg", "--config.eval.path=/sets"]
    qface(tmp_path, "--size=paper", "--only=baseline", "--seeds=0", *given)
    assert trainer.heard == (
        [
            *ablation.QFACE, "train", "--config=qgface_baseline",
            f"--workdir={tmp_path / 'qgface_baseline-seed0'}", "--config.seed=0",
            *given,
        ],
    )  # fmt: skip


def test_rows_come_seed_by_seed_and_what_is_finished_once(tmp_path, trainer, capsys):
    # E is in every table; the same augmentation for all rows keeps this test small.
    words = ["--seeds=0,1", "--config.degrade.recipe=adaface"]
    assert qface(tmp_path, "--only=Baseline,E,baseline", *words) == 0
    assert trained(trainer) == [
        f"qgface_demo_{name}-seed{seed}"
        for seed in (0, 1)
        for name in ("baseline", "e")
    ]
    said = capsys.readouterr()
    assert (
        "run 1 of 4: qgface_demo_baseline-seed0 (elapsed 0:00:00, ETA not" in said.err
    )
    assert "run 4 of 4: qgface_demo_e-seed1 (elapsed 0:00:0" in said.err
    assert "Here (synthetic): E - Baseline at 112 px: +0.00 ± 0.00 (n 2)." in said.out
    assert f"table: {tmp_path / 'qgface1.md'}" in said.out
    assert (tmp_path / "qgface1.json").is_file()
    assert qface(tmp_path, "--only=0.2,0.1", *words, table="qgface3") == 0
    assert trained(trainer)[4:] == [
        f"qgface_demo_threshold_01-seed{seed}" for seed in (0, 1)
    ]
    assert "2 of 4 runs are finished already" in capsys.readouterr().err
    assert sum("data" in heard for heard in trainer.heard) == 1


def test_what_was_interrupted_goes_on(tmp_path, trainer):
    words = ["--only=A,D", "--seeds=0", "--config.degrade.recipe=adaface"]
    assert qface(tmp_path, *words) == 0
    first = trained(trainer)
    folder = tmp_path / first[0]
    config = run_folder.read(folder).config
    write_run(folder, config, ACCURACIES, step=750)  # an evaluation on the way
    assert qface(tmp_path, *words) == 0
    assert trained(trainer) == [*first, first[0]]
    # A run of another config is qface train's to refuse, not to be taken for this one.
    assert qface(tmp_path, *words, "--config.total_steps=900") == 0
    assert trained(trainer) == [*first, first[0], *first]


def test_a_failed_run_is_named_and_the_others_are_done(
    tmp_path, trainer, monkeypatch, capsys
):
    monkeypatch.setattr(Trainer, "statuses", {2: 2})  # the first after the drawing
    assert qface(tmp_path, "--only=Baseline,A", "--seeds=0") == 1
    assert trained(trainer) == ["qgface_demo_baseline-seed0", "qgface_demo_a-seed0"]
    said = capsys.readouterr()
    assert "1 failed, their errors are above:\n  qgface_demo_baseline-seed0: exit " in (
        said.err
    )
    assert "not finished, hence not in the table: qgface_demo_baseline (seed 0)" in (
        " ".join(said.out.split())
    )
    monkeypatch.setattr(Trainer, "statuses", {})
    assert qface(tmp_path, "--only=Baseline,A", "--seeds=0") == 0
    assert trained(trainer)[2:] == ["qgface_demo_baseline-seed0"]


def test_faces_that_cannot_be_drawn_end_it(tmp_path, trainer, monkeypatch, capsys):
    monkeypatch.setattr(Trainer, "statuses", {1: 2})
    assert qface(tmp_path, "--only=A") == 2
    assert "the faces could not be drawn" in capsys.readouterr().err
    assert trained(trainer) == []


def test_print_only_trains_nothing(tmp_path, trainer, capsys):
    assert qface(tmp_path, "--print-only", "--seeds=0") == 0
    assert trainer.heard == ()
    said = capsys.readouterr().out
    assert "SCface d1" in said
    assert "No run is finished" in said
    assert (tmp_path / "qgface1.md").is_file()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--seeds=0,x"], "--seeds: got '0,x', must be numbers as in 0,1,2"),
        (["--config.seed=3"], "--config.seed: here the seeds are given by --seeds"),
        (["--only=A,F"], "--only: got 'A,F', must be of Baseline, A, B, C, D, E"),
        (["--only=A", "--config.eval.sets=()"], "eval.sets: is empty"),
        (["--only=A", "--config.optim.momentum=2"], "optim.momentum: got 2.0"),
        (["--only=A", "--size=paper"], "data.path: got ''"),
        (["--submit=no-such-program x"], "--submit: got 'no-such-program x'"),
        (["--submit="], "--submit: got ''"),
        (["--submit=true 'x"], "--submit: got "),
    ],
)
def test_mistakes_are_told_before_anything_runs(tmp_path, trainer, capsys, words, says):
    assert qface(tmp_path, *words) == 2
    assert says in capsys.readouterr().err
    assert trainer.heard == ()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes a program of a shell text; it is called by its path."""

    def make(text):
        path = tmp_path / "stand in"
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_jobs_are_submitted(tmp_path, stand_in, capfd):
    record = f'printf "%s\\n" "$@" >>"{tmp_path}/words"; echo "Submitted batch job 7"'
    submit = shlex.join([stand_in(record), "--nodes=1", "a b"])
    runs = tmp_path / "my runs"
    given = ["--size=paper", "--config.data.path=/vgg"]
    assert qface(
        runs, f"--submit={submit}", "--only=Baseline,A", "--seeds=0", *given
    ) == 0  # fmt: skip
    assert (tmp_path / "words").read_text().splitlines() == [
        word
        for name in ("qgface_baseline", "qgface_a")
        for word in [
            "--nodes=1", "a b", "qface", "train", f"--config={name}",
            f"--workdir={runs / name}-seed0", "--config.seed=0",
            "--config.data.path=/vgg",
        ]
    ]  # fmt: skip
    said = capfd.readouterr()
    assert said.err.count("Submitted batch job 7") == 2
    again = shlex.split(said.out.splitlines()[-1])
    assert again[:2] == ["qface", "ablation"]
    assert main.main(again[1:]) == 0
    assert f"table: {runs / 'qgface1.md'}" in capfd.readouterr().out


def test_a_refused_job_is_named(tmp_path, stand_in, capfd):
    submit = shlex.quote(stand_in("exit 3"))
    words = ["--size=paper", "--only=A", "--seeds=0", "--config.data.path=/vgg"]
    assert qface(tmp_path, f"--submit={submit}", *words) == 1
    assert "qgface_a-seed0: exit status 3" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_a_signal_reaches_the_run_once_and_nothing_follows(
    tmp_path, stand_in, monkeypatch, name
):
    heard = "TERM" if name == "HUP" else name
    code = 128 + getattr(signal, f"SIG{heard}")
    notes = f'echo $* >>"{tmp_path}/started"\n'
    traps = f'trap "echo {heard} >>\\"{tmp_path}/heard\\"; code={code}" {heard}\n'
    # What is sent to the ablation comes back; a second one would be noted too.
    waits = (
        f"kill -{name} $PPID\n"
        "for _ in {1..500}; do [[ -n ${code-} ]] || sleep 0.02; done\n"
        "sleep 0.2; exit ${code-9}"
    )
    program = stand_in(f"{notes}{traps}{waits}")
    monkeypatch.setattr(ablation, "QFACE", (program,))
    words = ["--config.data.source=folder", "--config.data.path=/faces"]
    before = signal.getsignal(signal.SIGTERM)
    hang_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # not as nohup leaves it
    try:
        status = qface(tmp_path, "--only=Baseline,A", "--seeds=0", *words)
    finally:
        signal.signal(signal.SIGHUP, hang_up)
    assert status == 128 + getattr(signal, f"SIG{name}")
    assert (tmp_path / "heard").read_text() == f"{heard}\n"
    started = (tmp_path / "started").read_text().splitlines()
    assert len(started) == 1
    assert "--config=qgface_demo_baseline" in started[0]
    assert signal.getsignal(signal.SIGTERM) == before


def test_what_nohup_made_deaf_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ablation.Children():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_that_was_stopped_itself_stops_all(tmp_path, stand_in, monkeypatch):
    program = stand_in(f'echo >>"{tmp_path}/started"; kill -TERM $$')
    monkeypatch.setattr(ablation, "QFACE", (program,))
    words = ["--config.data.source=folder", "--config.data.path=/faces"]
    assert qface(tmp_path, "--only=Baseline,A", "--seeds=0", *words) == 143
    assert (tmp_path / "started").read_text() == "\n"


def test_the_devices_are_left_to_the_runs(tmp_path):
    code = (
        "import sys\n"
        "from qface_jax.launch import main\n"
        "from qface_jax.launch.commands import ablation\n"
        "ablation.QFACE = ('true',)\n"
        "words = ['ablation', 'qgface1', '--only=A', '--seeds=2']\n"
        f"words += ['--workdir={tmp_path}']\n"
        "assert main.main(words) == 0\n"
        "from jax._src import xla_bridge\n"
        "assert xla_bridge._backends == {}, xla_bridge._backends\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "run 1 of 1: qgface_demo_a-seed2" in done.stderr


def test_the_script_sets_up_and_hands_its_words_on(tmp_path):
    script = ["bash", str(ROOT / "launch" / "ablation.sh")]
    for words in ([], ["--help"]):
        done = subprocess.run([*script, *words], capture_output=True, text=True)
        assert done.returncode == 0
        assert "bash launch/ablation.sh TABLE" in done.stdout
        assert "set -euo" not in done.stdout
    install(tmp_path / "venv", ROOT)
    (tmp_path / "venv" / "bin" / "qface").write_text(
        '#!/usr/bin/env bash\nprintf "%s\\n" "$@"; exit 7\n'
    )
    done = subprocess.run(
        [*script, "qgface1", "--only=A, E"], capture_output=True, text=True, cwd="/",
        env=os.environ | {"QFACE_VENV": str(tmp_path / "venv")},
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert done.stdout.splitlines() == ["ablation", "qgface1", "--only=A, E"]
