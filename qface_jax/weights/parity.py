"""Whether an imported model says the same as where it came from."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from qface_jax.errors import ConfigError, DataError
from qface_jax.weights.convention import Convention

# Pixels uint8 [b, 112, 112, 3], RGB -> features [b, d].
Embed = Callable[[np.ndarray], np.ndarray]

BATCHES = (1, 8)
# Of the embedding's norm, by what the source computes in: some roundings of its
# numbers, of which float16 keeps 11 bits and bfloat16 8.
TOLERANCES = {"float32": 1e-4, "float16": 2e-3, "bfloat16": 2e-2}
# Smallest cosine between embeddings of different pictures. Trained networks have less
# than 0.1 between some; under a wrong mean or deviation most go beyond 0.99.
ALIKE, SUSPICIOUS = 0.98, 0.7
_FATAL = 4  # what onnxruntime prints by itself
_UNIT = 1e-3  # how far from 1 the norms of normalised embeddings may be


class Compared(NamedTuple):
    """How far the embeddings of one kind of images differ at one batch size.

    Attributes:
        images: What they are: "random" or "faces".
        batch: Images per call.
        count: How many were compared.
        difference: Largest ||ours - theirs|| / ||theirs|| of an image.
        worst: Which image that is.
        cosine: Smallest cosine between ours and theirs.
        norms: Smallest and largest ||theirs||.
        as_directions: The source normalises its embeddings, so ours were too.
    """

    images: str
    batch: int
    count: int
    difference: float
    worst: int
    cosine: float
    norms: tuple[float, float]
    as_directions: bool

    def __str__(self) -> str:
        """Says it in one line."""
        low, high = self.norms
        kind = "directions" if self.as_directions else f"norms {low:.3g} to {high:.3g}"
        return (
            f"{self.count} {self.images}, batch {self.batch}: largest difference "
            f"{self.difference:.1e} of the norm ({kind}), smallest cosine "
            f"{self.cosine:.7f}"
        )


def compare(
    ours: Embed,
    theirs: Embed,
    pictures: dict[str, np.ndarray],
    *,
    batches: tuple[int, ...] = BATCHES,
    lengths_count: bool = False,
) -> list[Compared]:
    """Returns how far two models differ, at each batch size and kind of images.

    Args:
        ours: The imported model, or an exported one.
        theirs: Its source.
        pictures: Kind -> uint8 [n, 112, 112, 3].
        batches: Images per call of `ours`; `theirs` gets the most of them.
        lengths_count: Whether embeddings of other lengths differ although those of
            `theirs` are of length 1.

    Raises:
        DataError: if their embeddings have different lengths.
    """
    results = []
    for kind, images in pictures.items():
        reference = _in_batches(theirs, images, max(batches))
        for batch in batches:
            rows = images if batch > 1 else images[: max(BATCHES)]
            embeddings = _in_batches(ours, rows, batch)
            results.append(
                _difference(
                    kind, batch, embeddings, reference[: len(rows)], lengths_count
                )
            )
    return results


def _in_batches(embed, images, batch) -> np.ndarray:
    """Embeddings in float64; the last batch is filled up with its last image."""
    rows = -(-len(images) // batch) * batch
    padded = images[np.minimum(np.arange(rows), len(images) - 1)]
    outputs = [embed(padded[i : i + batch]) for i in range(0, rows, batch)]
    return np.concatenate(outputs).astype(np.float64)[: len(images)]


def _difference(kind, batch, embeddings, reference, lengths_count) -> Compared:
    if embeddings.shape != reference.shape:
        raise DataError(
            f"embeddings have {embeddings.shape[1]} numbers here, "
            f"{reference.shape[1]} in the reference: it is another network"
        )
    norms = np.linalg.norm(reference, axis=1)
    lengths = np.linalg.norm(embeddings, axis=1)
    normalised = bool(np.all(np.abs(norms - 1) < _UNIT))
    other_lengths = not np.all(np.abs(lengths - 1) < _UNIT)
    as_directions = normalised and other_lengths and not lengths_count
    if as_directions:
        embeddings = embeddings / lengths[:, None]
    differences = np.linalg.norm(embeddings - reference, axis=1) / norms
    # NaN is the largest difference of all.
    worst = int(np.argmax(np.where(np.isfinite(differences), differences, np.inf)))
    cosines = (
        np.sum(embeddings * reference, axis=1)
        / norms
        / np.linalg.norm(embeddings, axis=1)
    )
    return Compared(
        images=kind,
        batch=batch,
        count=len(embeddings),
        difference=float(differences[worst]),
        worst=worst,
        cosine=float(cosines.min()),
        norms=(float(norms.min()), float(norms.max())),
        as_directions=as_directions,
    )


def refuse_difference(results: list[Compared], tolerance: float) -> None:
    """Raises DataError where a difference is above the tolerance, or not a number."""
    beyond = [result for result in results if not result.difference <= tolerance]
    if beyond:
        lines = "\n".join(f"  {result} (image {result.worst})" for result in beyond)
        raise DataError(
            f"the imported model differs from its source by more than {tolerance:g} "
            f"of the embedding's norm\n{lines}\n"
            "nothing was written; give the right reference, --structure or "
            "--preprocess, or a larger --tolerance"
        )


def smallest_cosine(ours: Embed, pictures: dict[str, np.ndarray]) -> float:
    """Returns the smallest cosine between a model's embeddings of different pictures.

    Args:
        ours: The model.
        pictures: Kind -> uint8 [n, 112, 112, 3].

    Raises:
        DataError: an embedding is not finite, or of length 0.
    """
    images = np.concatenate(list(pictures.values()))
    embeddings = _in_batches(ours, images, max(BATCHES))
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    usable = np.isfinite(lengths) & (lengths > 0)
    if not usable.all():
        raise DataError(
            f"{int((~usable).sum())} of {len(images)} pictures have embeddings that "
            "are 0 or not finite; the weights are damaged, or made for another input: "
            "say --preprocess, --mean, --std or --color-order"
        )
    unit = embeddings / lengths
    return float((unit @ unit.T).min())


def refuse_alike(cosine: float) -> None:
    """Raises DataError where different pictures have all but the same embedding."""
    if cosine >= ALIKE:
        raise DataError(
            f"all pictures have almost the same embedding (smallest cosine "
            f"{cosine:.4f}, expected below {ALIKE:g}); the network is not trained, or "
            "made for another input: say --preprocess, --mean or --std; "
            "--allow-alike imports it as it is"
        )


def random_images(count: int) -> np.ndarray:
    """Returns pictures of independent random pixels, uint8 [count, 112, 112, 3]."""
    draws = np.random.default_rng(0)
    return draws.integers(0, 256, (count, 112, 112, 3), np.uint8)


def our_embed(model: Any, params: Any, stats: Any) -> Embed:
    """Returns the imported model as pixels -> features.

    Args:
        model: `models.Model` of its config.
        params: Parameters of the backbone.
        stats: Its running statistics.
    """
    import jax
    import jax.numpy as jnp

    @jax.jit
    def embed(params, stats, pixels):
        images = pixels.astype(jnp.float32) / 127.5 - 1.0
        return model.apply(params, stats, images, train=False, key=None)[0]

    params, stats = jax.device_put((params, stats))
    return lambda pixels: np.asarray(embed(params, stats, pixels))


def onnx_session(path: Path, called: Path) -> Any:
    """Returns an onnxruntime.InferenceSession of a file, on the CPU.

    Args:
        path: The file.
        called: What a message calls it.

    Raises:
        DataError: if onnxruntime cannot load it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL  # errors are raised besides
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        # Its errors have no common class but Exception.
        raise DataError(
            f"{called}: onnxruntime cannot load it ({str(error).splitlines()[0][:200]})"
        ) from error


def onnx_embed(path: Path, convention: Convention) -> Embed | None:
    """Returns an ONNX file as pixels -> features; None without onnxruntime.

    Args:
        path: The file; takes [b, 3, h, w] or [b, h, w, 3], b fixed or free.
        convention: What it takes.

    Raises:
        DataError: if onnxruntime cannot load it, or `Embed` cannot run it.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session, options = onnx_session(path, path), onnxruntime.RunOptions()
    options.log_severity_level = _FATAL
    entry = session.get_inputs()[0]
    if len(entry.shape) != 4:
        raise ConfigError(f"{path}: takes {entry.shape}, expected [b, 3, h, w]")
    batch, channels_first = entry.shape[0], entry.shape[1] == 3
    half = "float16" in entry.type

    def embed(pixels):
        values = convention.apply(pixels)
        values = values.transpose(0, 3, 1, 2) if channels_first else values
        values = np.ascontiguousarray(values, np.float16 if half else np.float32)
        size = batch if isinstance(batch, int) and batch > 0 else len(values)
        if len(values) % size:
            raise DataError(f"{path}: has a fixed batch of {size}, which cannot check")
        try:
            outputs = [
                session.run(None, {entry.name: values[i : i + size]}, options)[0]
                for i in range(0, len(values), size)
            ]
        except Exception as error:  # as of the session itself
            first = str(error).splitlines()[0][:200]
            raise DataError(f"{path}: onnxruntime cannot run it ({first})") from error
        return np.concatenate([part.reshape(size, -1) for part in outputs])

    return embed
