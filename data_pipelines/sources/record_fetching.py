"""Records on their way into tf.data: fetched in batches, odd pictures made plain."""

from collections.abc import Callable

import numpy as np

from qface_jax.data_pipelines.stream import decoding
from qface_jax.errors import DataError

Fetch = Callable[[np.ndarray], tuple[list[bytes], np.ndarray]]


class Records:
    """Fetches batches for tf.data, and keeps what went wrong out of TensorFlow.

    An exception that passes through TensorFlow comes out as pages of its own text. So
    a failure is kept here by step, the step gets placeholders, and `faces` raises
    the failure instead of handing that batch out.
    """

    def __init__(self, fetch: Fetch, name: Callable[[int], str]):
        """Keeps the two functions.

        Args:
          fetch: indices [k] -> encoded images and int32 labels.
          name: index of a record -> where it comes from, for messages.
        """
        self.failures: dict[int, Exception] = {}
        self._fetch = fetch
        self._name = name
        self._odd: set[int] = set()  # records that only Pillow can decode

    def load(self, step: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fetches a step's records: encoded [k] object, labels int32 [k]."""
        encoded = np.empty(len(indices), object)
        try:
            images, labels = self._fetch(indices)
            for row, (index, image) in enumerate(zip(indices, images, strict=True)):
                encoded[row] = self._plain(int(index), image)
        except Exception as error:
            self.failures[int(step)] = error
            encoded[:] = decoding.placeholder()
            labels = np.zeros(len(indices), np.int32)
        return encoded, np.asarray(labels, np.int32)

    def learn(self, indices: np.ndarray) -> bool:
        """Finds the records that TensorFlow could not decode, for another attempt.

        Args:
          indices: of the step in which decoding failed.

        Returns:
          Whether there are any: all of them are pictures to Pillow.

        Raises:
          DataError: one of them is no picture at all.
        """
        images, _ = self._fetch(indices)
        found = False
        for index, image in zip(indices, images, strict=True):
            if not decoding.reads(self._plain(int(index), image)):
                if decoding.transcode(image) is None:
                    raise self._no_picture(int(index), image)
                self._odd.add(int(index))
                found = True
        return found

    def _plain(self, index: int, image: bytes) -> bytes:
        if index not in self._odd and decoding.is_common(image):
            return image
        plain = decoding.transcode(image)
        if plain is None:
            raise self._no_picture(index, image)
        return plain

    def _no_picture(self, index: int, image: bytes) -> DataError:
        return DataError(
            f"{self._name(index)}: not a picture, or a damaged one: {len(image)} bytes "
            f"that begin with {image[:8]!r}; neither TensorFlow nor Pillow decodes it. "
            "Fetch the data again, or leave the record out"
        )
