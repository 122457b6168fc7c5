"""`qface quality`: how recognisable faces are, and how good the scores that say so."""

from qface_jax.launch.commands.command import group
from qface_jax.launch.commands.quality import discard, maps, score, unrecognizable

DESCRIPTION = """Score faces by how well a run can recognise them, and judge the scores:
feature norm (every run), ERS and recognizability index RI (runs with objective
recognizability). Of every score larger is better."""
COMMAND = group(
    summary="score faces, judge the scores, draw where a model looks",
    description=DESCRIPTION,
    actions={
        "score": (score, "score images, one line of a CSV for each"),
        "erc": (discard, "error-versus-discard curves of an evaluated run"),
        "ui-cluster": (unrecognizable, "where unrecognizable images lie, and faces"),
        "maps": (maps, "draw where a model looks"),
    },
)
