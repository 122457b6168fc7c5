"""Compiled programs kept between commands, so that a resumed run compiles nothing.

JAX keeps them in JAX_COMPILATION_CACHE_DIR. Where the user has not set it, it is a
folder below his cache folder, of this kind of processor and this release of XLA: what
was compiled for one may not run on another. JAX_ENABLE_COMPILATION_CACHE=False does
without.
"""

import hashlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path

FOLDER = "JAX_COMPILATION_CACHE_DIR"
ENABLED = "JAX_ENABLE_COMPILATION_CACHE"
SHORTEST = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
MAX_BYTES = 4 * 2**30
_CPUINFO = Path("/proc/cpuinfo")
_OF_PROCESSOR = ("model name", "flags", "Features", "CPU part")


def prepare() -> None:
    """Sets where JAX keeps compiled programs, never over what the user has set.

    Where the folders of all kinds hold more than MAX_BYTES, what was not used for
    longest is removed. Where the folder cannot be made, nothing is kept.
    """
    if FOLDER in os.environ or _off(os.environ.get(ENABLED, "")):
        return
    try:
        folder = cache_folder()
        # Whoever writes there has his code run here.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_oldest(folder.parent, MAX_BYTES)
    except (OSError, RuntimeError):  # no home
        return
    os.environ[FOLDER] = str(folder)
    # The many small programs of a start take longer to compile than to read.
    os.environ.setdefault(SHORTEST, "0")


def cache_folder() -> Path:
    """Returns the folder of this processor and this release of XLA."""
    if sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        given = os.environ.get("XDG_CACHE_HOME", "")
        caches = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    kind = f"jaxlib-{importlib.metadata.version('jaxlib')}-{_processor()}"
    return caches / "qface_jax" / "compiled" / kind


def remove_oldest(folder: Path, max_bytes: int) -> None:
    """Removes the files below a folder that were used longest ago, until few are left.

    Args:
        folder: Of folders of files.
        max_bytes: Of all files together that may stay.
    """
    files = []
    for path in folder.glob("*/*"):
        try:
            status = path.stat()
        except FileNotFoundError:  # another process removed it
            continue
        files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    held = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if held <= max_bytes:
            return
        path.unlink(missing_ok=True)
        held -= size


def _off(text: str) -> bool:
    """Whether JAX takes the value of a variable for False."""
    return text.lower() in ("0", "f", "false", "n", "no", "off")


def _processor() -> str:
    """Returns a short word for the kind of processor and its instruction sets."""
    said = [platform.machine(), platform.processor()]
    if _CPUINFO.is_file():
        lines = _CPUINFO.read_text(errors="replace").splitlines()
        of_kind = [line for line in lines if line.startswith(_OF_PROCESSOR)]
        said += sorted(set(of_kind))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]
