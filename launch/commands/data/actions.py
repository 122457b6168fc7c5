"""`qface data`: import, look at, preview and align sets of images."""

from qface_jax.launch.commands.command import group
from qface_jax.launch.commands.data import (
    align,
    import_set,
    inspect_set,
    pairs,
    preview,
)

COMMAND = group(
    summary="import, inspect, preview, align or pair images",
    description="Import, inspect, preview, align and pair sets of face images.",
    actions={
        "import": (
            import_set,
            "copy a set into ArrayRecord shards; the same command resumes it",
        ),
        "inspect": (inspect_set, "count what a set holds and say what looks wrong"),
        "preview": (preview, "draw what the network sees after degradation, as PNG"),
        "align": (align, "make aligned crops of a folder of photographs"),
        "pairs": (pairs, "draw pairs of a folder of people, to evaluate on"),
    },
)
