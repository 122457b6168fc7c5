"""Names of the arrays that cross module borders; shape letters as in jaxtyping.

b batch, c classes, d embedding, h w pixels. `Batch` is what the input pipeline
yields for one host: `images` uint8 [b, h, w, 3] RGB and `labels` int32 [b], where
-1 marks a padding row. `Metrics` is a flat dict of scalars.
"""

from typing import Any, TypeAlias

import jax

Batch: TypeAlias = dict[str, jax.Array]
Metrics: TypeAlias = dict[str, jax.Array]
PyTree: TypeAlias = Any
