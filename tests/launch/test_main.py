"""The console command: from any folder, with clear errors and exit codes."""

import errno
import os
import subprocess
import sys

import pytest

from qface_jax.launch import main
from qface_jax.runs import run_folder
from qface_jax.settings import config as configs
from support.small_run import words


def qface(*arguments, cwd="/", **kwargs):
    return subprocess.run(
        [sys.executable, "-m", "qface_jax.launch.main", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=300, **kwargs,
    )  # fmt: skip


@pytest.mark.parametrize("command", [None, *main.COMMANDS])
def test_help_says_what_it_does(command, capsys):
    arguments = ["--help"] if command is None else [command, "--help"]
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 0
    assert f"usage: qface{'' if command is None else ' ' + command}" in (
        capsys.readouterr().out
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys, contextlib\n"
        "from qface_jax.launch import main\n"
        "with contextlib.suppress(SystemExit): main.main(['train', '--help'])\n"
        "heavy = {'jax', 'tensorflow', 'matplotlib', 'flax'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["train", "--config=demo", "--wrkdir=x"],
        ["report", "run", "--config.seed=1"],
    ],
)
def test_unknown_words_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(arguments)
    assert stop.value.code == 2
    assert arguments[-1].split("=")[0] in capsys.readouterr().err


FAULTS = """
import errno

from qface_jax.launch.commands.command import Command


def command(error):
    def run(args):
        raise error

    return Command("fails", "Fails.", lambda parser: None, run)


full = command(OSError(errno.ENOSPC, "No space left on device", "/somewhere/file"))
forbidden = command(PermissionError(errno.EACCES, "Permission denied", "/some/file"))
broken = command(ZeroDivisionError("oops"))
stopped = command(KeyboardInterrupt())
"""


def test_no_space_and_faults_have_their_own_exit_codes(tmp_path, capsys):
    (tmp_path / "faults.py").write_text(FAULTS)
    statuses, messages = {}, {}
    for name in ("full", "forbidden", "broken", "stopped"):
        statuses[name] = main.main([f"{tmp_path / 'faults.py'}:{name}"])
        messages[name] = capsys.readouterr().err
    assert statuses == {"full": 2, "forbidden": 2, "broken": 1, "stopped": 130}
    assert "no space left on the disk at /somewhere/file" in messages["full"]
    assert "Traceback" not in messages["full"]
    assert "error: Permission denied at /some/file; change" in messages["forbidden"]
    assert "oops" in messages["broken"]


def test_user_errors_are_one_message_without_traceback(capsys):
    assert main.main(["eval", "--checkpoint=/nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("qface eval: error: /nowhere: not the folder of a run")
    assert "Traceback" not in said


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_that_is_not_there_is_one_message(platform, tmp_path):
    drawn = qface(
        "gst",
        "--margin=arcface",
        f"--out={tmp_path / 'gst.png'}",
        env=os.environ | {"JAX_PLATFORMS": platform},
    )
    assert drawn.returncode == 2
    assert f"JAX_PLATFORMS={platform}: JAX finds no such device" in drawn.stderr
    assert "Traceback" not in drawn.stderr


def test_train_eval_and_report_from_the_root_folder(tmp_path):
    run = tmp_path / "run"
    trained = qface("train", "--config=demo", f"--workdir={run}", *words())
    assert trained.returncode == 0, trained.stderr
    assert "ETA" in trained.stderr
    assert "112 px" in trained.stdout
    assert f"report: {run / 'report.html'}" in trained.stdout
    judged = qface(
        "eval", f"--checkpoint={run}", "--which=best", "--config.eval.flip=false"
    )
    assert judged.returncode == 0, judged.stderr
    assert "without flip" in judged.stdout
    assert (run / "report.html").stat().st_size > 10_000


def test_eval_keeps_to_what_the_run_is(tmp_path, capsys):
    run = tmp_path / "run"
    run_folder.open_or_create(
        run, configs.load("demo"), num_classes=3, data={"images": 9}
    )
    checkpoint = f"--checkpoint={run}"
    assert main.main(["eval", checkpoint, "--config.model.backbone=tiny"]) == 2
    assert "the run is as it was trained" in capsys.readouterr().err
    assert main.main(["eval", checkpoint, "--config.eval.sets=()"]) == 2
    assert "eval.sets: is empty" in capsys.readouterr().err
    assert main.main(["eval", checkpoint, "--config=eval_lfw_family"]) == 2
    assert "lfw.bin" in capsys.readouterr().err
    assert main.main(["eval", checkpoint]) == 2
    assert "has no 'last' checkpoint yet" in capsys.readouterr().err


def test_gst_prints_a_table_and_draws(tmp_path, capsys):
    out = tmp_path / "gst.png"
    assert main.main(["gst", "--margin=adaface,cosface", f"--out={out}"]) == 0
    said = capsys.readouterr().out
    assert said.count("adaface") == 3
    assert out.read_bytes().startswith(b"\x89PNG")
    assert main.main(["gst", "--margin=foo", f"--out={out}"]) == 2


def test_a_full_device_is_no_fault_of_the_program(capsys):
    error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 6.13GiB\nmore")
    assert main._explain("train", error) == main.EXIT_ERROR
    said = capsys.readouterr().err
    assert "out of memory on a device" in said
    assert "6.13GiB" in said
    assert "data.batch_size" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run/report.html"),
        ValueError(
            "RESOURCE_EXHAUSTED: Failed writing: Failed to write 149 bytes to file 5: "
            "No space left on device [os_error_code='28']"
        ),
        RuntimeError("RESOURCE_EXHAUSTED: Disk quota exceeded"),
    ],
)
def test_a_full_disk_is_no_full_device(error, capsys):
    wrapped = RuntimeError("could not be written")
    wrapped.__cause__ = error
    for raised in (error, wrapped):
        assert main._explain("train", raised) == main.EXIT_ERROR
        said = capsys.readouterr().err
        assert "no space left on the disk" in said and "make room" in said
        assert "device" not in said.replace("left on device", "")
        assert "Traceback" not in said


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Stale file handle (tried 6 times in 14.4 s)", "/run/best"),
        ValueError(
            "ABORTED: Error reading from open file /run/best/d/1a: Failed to read 6276 "
            "bytes: Stale file handle [os_error_code='116']\nmore"
        ),
    ],
)
def test_storage_that_keeps_failing_is_no_fault_of_the_program(error, capsys):
    assert main._explain("train", error) == main.EXIT_ERROR
    said = capsys.readouterr().err
    assert "the storage fails" in said and "Stale file handle" in said
    assert "/run/best" in said and "run the same command again" in said
    assert "Traceback" not in said and len(said.splitlines()) == 1


def test_an_error_that_is_its_own_origin_ends_the_command(capsys):
    kept, raised = OSError(errno.EIO, "kept"), RuntimeError("raised")
    raised.__cause__, kept.__cause__ = kept, raised
    assert main._explain("train", raised) == main.EXIT_FAULT
    assert "this is a fault of qface_jax itself" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOENT, "was removed or moved while the command ran"),
        (errno.EACCES, "change its rights"),
        (errno.EROFS, "change its rights"),
        (errno.EISDIR, "name another place"),
        (errno.EEXIST, "name another place"),
        (errno.ENOTEMPTY, "name another place"),
    ],
)
def test_a_path_that_cannot_be_used_says_how_to_mend_it(number, says, capsys):
    error = OSError(number, os.strerror(number), "/somewhere/run")
    assert main._explain("train", error) == main.EXIT_ERROR
    said = capsys.readouterr().err
    assert "at /somewhere/run; " in said and says in said
    assert ("rights" in said) == (number in (errno.EACCES, errno.EROFS))
