"""The pytree of a checkpoint: its arrays by path, and how two differ."""

from pathlib import Path
from typing import Any

import jax

from qface_jax.errors import ConfigError
from qface_jax.runs.digest_record import described


def _key(entry: Any) -> str:
    """Returns the name of an entry of a path: a dict key, an attribute, a position."""
    for name in ("key", "name", "idx"):
        if hasattr(entry, name):
            return str(getattr(entry, name))
    raise TypeError(f"unexpected pytree path entry {entry!r}")


def path_of(entries: Any) -> str:
    """Returns the path of a leaf in one word, such as "params/backbone/conv"."""
    return "/".join(_key(entry) for entry in entries)


def leaves(tree: Any) -> dict[str, Any]:
    """Returns path -> leaf of a pytree."""
    return {
        path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def refuse_other_tree(path: Path, saved: Any, wanted: Any) -> None:
    """Raises ConfigError that names the leaves that differ; Orbax does not."""
    have, want = leaves(saved), leaves(wanted)
    lines = [f"  {name}: only in the checkpoint" for name in have if name not in want]
    lines += [f"  {name}: not in the checkpoint" for name in want if name not in have]
    lines += [
        f"  {name}: {described(have[name])} saved, {described(want[name])} expected"
        for name in want
        if name in have and described(have[name]) != described(want[name])
    ]
    if lines:
        shown = "\n".join(lines[:8])
        more = f"\n  and {len(lines) - 8} more" if len(lines) > 8 else ""
        raise ConfigError(
            f"{path}: checkpoint of another model or optimizer\n{shown}{more}\n"
            "give another --workdir, or --init-from to take over what fits"
        )
