"""A model in use: from images to features, similarities and quality scores."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from qface_jax.data_pipelines.sources.image_status import OK, Status
from qface_jax.evals.measures.unit import unit
from qface_jax.inference import embeddings
from qface_jax.inference.embedder import Embedder
from qface_jax.inference.embeddings import Embeddings
from qface_jax.models import IMAGE_SIDE

if TYPE_CHECKING:  # it loads TensorFlow
    from qface_jax.data_pipelines.sources.image_list import ImageList

# uint8 [n, h, w, 3] RGB; or the path of a folder, an image, a list of images, a .bin
# file or a training set; or paths of images.
Images = np.ndarray | str | Path | Sequence[str | Path]
BATCH_SIZE = 64  # where nothing else is said

# Rows at a time -> images uint8 [k, 112, 112, 3] and what became of them.
_Batches = Callable[[int], Iterator[tuple[np.ndarray, list[Status]]]]


class Model:
    """A trained or imported model; `qface_jax.load` makes one.

    Attributes:
        path: Folder or file that it comes from.
        embedder: The model on the devices.
        notes: What there is to say of how it was read.
    """

    def __init__(
        self, embedder: Embedder, *, path: str | Path, notes: Sequence[str] = ()
    ) -> None:
        """Takes a model that is on the devices."""
        self.path, self.embedder, self.notes = Path(path), embedder, tuple(notes)

    def __repr__(self) -> str:
        """Returns where it comes from, and what scores it has."""
        return f"<qface_jax.Model {self.path}, scores {', '.join(self.scores)}>"

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the quality scores that the model has; "norm" is always there."""
        return tuple(self.embedder.scores)

    def embed(
        self, images: Images, *, flip: bool = True, batch_size: int = BATCH_SIZE
    ) -> Embeddings:
        """Returns features, quality scores and a status of each image.

        The model expects aligned faces (`qface data align` makes some of photographs).
        Images that are not 112 x 112 px become so as in the model's training.

        Args:
            images: uint8 [n, h, w, 3], RGB, n at least 1; or the path of a folder with
                images at any depth, of an image, a `.txt` list of images, a `.bin` file
                of pairs or a training set; or a list of paths of images.
            flip: Whether the raw feature of the mirror image is added.
            batch_size: Images at a time, of all devices together.

        Raises:
            ValueError: An array of another type or shape, or a batch size below 1.
            DataError: There is nothing at a path, or no image.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size: got {batch_size}, must be at least 1")
        count, batches = self._opened(images)
        embedder = self.sized(min(batch_size, count), flip=flip)
        return embeddings.of_batches(embedder.stream(batches(embedder.rows)))

    def similarity(
        self, a: Images | Embeddings, b: Images | Embeddings, *, flip: bool = True
    ) -> np.ndarray:
        """Returns the cosine of every a with every b, float32 [n, m].

        NaN where one of the two cannot be used.

        Args:
            a: n images, as `embed` takes them, or their embeddings.
            b: m of them, likewise.
            flip: As of `embed`.
        """
        first, second = (
            one if isinstance(one, Embeddings) else self.embed(one, flip=flip)
            for one in (a, b)
        )
        cosines = unit(first.features) @ unit(second.features).T
        cosines[~first.ok] = np.nan
        cosines[:, ~second.ok] = np.nan
        return cosines.astype(np.float32)

    def quality(
        self, images: Images, *, batch_size: int = BATCH_SIZE
    ) -> dict[str, np.ndarray]:
        """Returns the quality scores of images by name, float64 [n] each.

        Larger is better; -inf where an image cannot be used.

        Args:
            images: As `embed` takes them.
            batch_size: As of `embed`.
        """
        return self.embed(images, flip=False, batch_size=batch_size).scores

    def sized(self, images: int, *, flip: bool) -> Embedder:
        """Returns what embeds at least so many images at a time.

        The number is rounded up to a power of two and to the devices: each one is a
        program of its own, and few images shall not cost a large batch.

        Args:
            images: At a time, at least 1.
            flip: As of `embed`.
        """
        devices = jax.device_count()
        rounded = -(-(1 << (images - 1).bit_length()) // devices) * devices
        return dataclasses.replace(self.embedder, flip=flip, batch_size=rounded)

    def _opened(self, images: Images) -> tuple[int, _Batches]:
        """Returns how many images there are, and how to read them."""
        if isinstance(images, str | Path):
            from qface_jax.data_pipelines.sources.image_list import open_images

            return self._of_list(open_images(images))
        if isinstance(images, Sequence):
            from qface_jax.data_pipelines.sources.image_list import list_paths

            _refuse_no_paths(images)
            return self._of_list(list_paths(images))
        pixels = _checked(np.asarray(images))
        return len(pixels), lambda rows: self._of_pixels(pixels, rows)

    def _of_list(self, images: "ImageList") -> tuple[int, _Batches]:
        from qface_jax.data_pipelines.sources.image_list import decoded_batches

        return len(images), lambda rows: decoded_batches(
            images, batch_size=rows, resize=self.embedder.resize
        )

    def _of_pixels(
        self, pixels: np.ndarray, rows: int
    ) -> Iterator[tuple[np.ndarray, list[Status]]]:
        height, width = pixels.shape[1:3]
        for start in range(0, len(pixels), rows):
            batch = pixels[start : start + rows]
            statuses = [
                Status(f"image {start + row}", OK, width=width, height=height)
                for row in range(len(batch))
            ]
            if (height, width) != (IMAGE_SIDE, IMAGE_SIDE):
                from qface_jax.data_pipelines.stream.decoding import fit

                resize = self.embedder.resize
                batch = np.stack([fit(image, resize).numpy() for image in batch])
            yield batch, statuses


def _refuse_no_paths(images: Sequence[Any]) -> None:
    for place, one in enumerate(images):
        if not isinstance(one, str | Path):
            raise ValueError(
                f"images: got {type(one).__name__} at place {place} of a "
                f"{type(images).__name__}, expected paths; put arrays together with "
                "numpy.stack(images), uint8 [n, h, w, 3]"
            )


def _checked(images: np.ndarray) -> np.ndarray:
    """Returns the images, or says what is wrong with them and how to mend it."""
    got = f"images: got {images.dtype} {list(images.shape)}, expected uint8 "
    got += "[n, h, w, 3], RGB from 0 to 255"
    if images.ndim == 3 and images.shape[2] == 3:
        raise ValueError(f"{got}; of a single image give images[None]")
    if images.ndim == 4 and images.shape[1] == 3 != images.shape[3]:
        raise ValueError(f"{got}; give images.transpose(0, 2, 3, 1)")
    if images.ndim != 4 or images.shape[3] != 3 or 0 in images.shape:
        raise ValueError(got)
    if np.issubdtype(images.dtype, np.floating):
        raise ValueError(
            f"{got}; of values from 0 to 1 give (255 * images).round()"
            ".astype(numpy.uint8), of values from -1 to 1 127.5 * (images + 1) so"
        )
    if images.dtype != np.uint8:
        raise ValueError(f"{got}; of values from 0 to 255 give .astype(numpy.uint8)")
    return images
