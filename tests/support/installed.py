"""A virtual environment that launch/environment.sh takes for a finished one."""

import subprocess


def install(folder, root, *, extras=""):
    """Makes the environment with a `qface` that ends at once.

    Args:
        folder: Where the environment lies.
        root: The project's folder that it was installed from.
        extras: With which extras.
    """
    command = folder / "bin" / "qface"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    text = (root / "pyproject.toml").read_bytes()
    locked = root / "requirements" / f"{extras or 'run'}.txt"
    text += locked.read_bytes() if locked.exists() else b""
    summed = subprocess.run(["cksum"], input=text, capture_output=True, check=True)
    stamp = f".qface-installed{extras and '-' + extras}"
    (folder / stamp).write_text(f"{summed.stdout.decode().strip()} {root}\n")
