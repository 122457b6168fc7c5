"""`qface data`: import, look at, preview and align sets of images."""

from qface_jax.launch.commands.command import group
from qface_jax.launch.commands.data import align, import_set, inspect_set, preview

COMMAND = group(
    summary="import, inspect, preview or align images",
    description="Import, inspect, preview and align sets of face images.",
    actions={
        "import": (
            import_set,
            "copy a set into ArrayRecord shards; the same command resumes it",
        ),
        "inspect": (inspect_set, "count what a set holds and say what looks wrong"),
        "preview": (preview, "draw what the network sees after degradation, as PNG"),
        "align": (align, "make aligned crops of a folder of photographs"),
    },
)
