"""Losses as pure functions of arrays, such as those of `qface_jax.losses.margin`."""
