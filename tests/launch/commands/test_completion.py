"""What a shell completes, asked of a real bash."""

import shutil
import subprocess

import pytest

from qface_jax.launch import main
from qface_jax.tables import COMMANDS

ASK = """
source /dev/stdin
complete=$(complete -p qface)
function=${complete##*-F }
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"${function%% *}" qface "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def script(shell, capsys):
    assert main.main(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["tr"], {"train"}),
        (["train", "--wo"], {"--workdir"}),
        (["train", "--trust"], {"--trust-code"}),
        (["train", "--config", "eval_ijb"], {"eval_ijbb", "eval_ijbc"}),
        (["import", "--preprocess", "facep"], {"faceplugin"}),
        (["data", "al"], {"align"}),
        (["data", "align", "--det"], {"--detector"}),
        (["quality", "maps", "--resol"], {"--resolutions"}),
    ],
)
def test_bash(words, completed, capsys):
    asked = subprocess.run(
        ["bash", "-c", ASK, "ask", "qface", *words],
        input=script("bash", capsys),
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(asked.stdout.split()) == completed, asked.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_others_know_every_command(shell, capsys, tmp_path):
    text = script(shell, capsys)
    assert all(name in text for name in COMMANDS)
    if shutil.which(shell):
        file = tmp_path / "script"
        file.write_text(text)
        subprocess.run([shell, "-n", str(file)], check=True)


def test_another_shell_is_refused(capsys):
    with pytest.raises(SystemExit):
        main.main(["completion", "csh"])
    assert "choose from" in capsys.readouterr().err
