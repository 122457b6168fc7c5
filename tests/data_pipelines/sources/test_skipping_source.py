"""Training goes on without its broken records, in the same way each time."""

import numpy as np
import pytest
from PIL import Image

from qface_jax.configs import base
from qface_jax.data_pipelines.sources.chosen_records import of_source, usable_first
from qface_jax.data_pipelines.sources.skipping_source import SkippingSource
from qface_jax.data_pipelines.sources.training import training_source
from qface_jax.data_pipelines.stream import faces
from qface_jax.data_pipelines.synthetic.faces import SyntheticFaces
from qface_jax.errors import DataError
from support.kept_source import Kept

IDENTITIES, EACH = 5, 4
EMPTY = b""


@pytest.fixture(scope="module")
def images():
    return Kept(SyntheticFaces(IDENTITIES, EACH, seed=0)).images


def source_with(changed, *, across_identities=True):
    kept = Kept(SyntheticFaces(IDENTITIES, EACH, seed=0), changed)
    return SkippingSource(kept, across_identities=across_identities)


def epoch(source):
    """Images and labels of one epoch in the order of the records, from the stream."""
    params = base.get_config().degrade.clean
    params.flip_probability = 0.0
    stream = faces.stream(
        source,
        batch_size=4,
        recipe="clean",
        params=params,
        seed=3,
        start_step=0,
        total_steps=5,
    )
    seen = list(stream)
    return (
        np.concatenate([batch["images"] for batch in seen]),
        np.concatenate([batch["labels"] for batch in seen]),
    )


def test_the_next_image_of_the_identity_takes_the_place(images):
    source = source_with({6: EMPTY, 7: EMPTY})
    got, labels = source.fetch(np.array([5, 6, 7]))
    assert got == [images[5], images[4], images[4]]
    np.testing.assert_array_equal(labels, [1, 1, 1])
    assert set(source.broken) == {6, 7}
    assert "empty" in source.broken[6]


def test_what_only_the_decoder_notices_is_left_out_too(images, caplog):
    """A file that ends too early shows after its header was read."""
    cut = images[13][: len(images[13]) // 2]
    got = epoch(source_with({13: cut, 2: EMPTY}))
    want = epoch(source_with({13: images[14], 2: images[3]}))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    left_out = [line for line in caplog.messages if line.startswith("left out")]
    assert len(left_out) == 2


def test_the_stream_does_not_depend_on_what_was_met_before(images):
    """A resumed run has met nothing yet, one that goes on has."""
    cut = images[13][: len(images[13]) // 2]
    source = source_with({13: cut, 14: cut, 15: EMPTY})
    first = epoch(source)
    again = epoch(source)
    fresh = epoch(source_with({13: cut, 14: cut, 15: EMPTY}))
    for images_of, labels in (again, fresh):
        np.testing.assert_array_equal(images_of, first[0])
        np.testing.assert_array_equal(labels, first[1])


def test_an_identity_without_a_usable_image(images):
    gone = dict.fromkeys(range(4, 8), EMPTY)
    got, labels = source_with(gone).fetch(np.array([5]))
    assert (got, list(labels)) == ([images[8]], [2])
    pairs = source_with(gone, across_identities=False)
    with pytest.raises(DataError, match="no other usable image of this identity"):
        pairs.fetch(np.array([5]))
    with pytest.raises(DataError, match="no usable image in the whole set"):
        source_with(dict.fromkeys(range(20), EMPTY)).fetch(np.array([5]))


def test_a_file_that_is_gone_is_a_broken_record(tmp_path):
    for person in "ab":
        (tmp_path / person).mkdir()
        for number, encoded in enumerate(Kept(SyntheticFaces(1, 3, seed=0)).images):
            (tmp_path / person / f"{number}.jpg").write_bytes(encoded)
    config = base.get_config()
    config.data.source, config.data.path = "auto", str(tmp_path)
    config.data.skip_broken = True
    source = training_source(config)
    assert source.describe() | {"source": "folder", "skip_broken": True} == (
        source.describe()
    )
    (tmp_path / "a" / "1.jpg").unlink()
    got, labels = source.fetch(np.arange(6))
    assert got[1] == got[2] and list(labels) == [0, 0, 0, 1, 1, 1]


def in_order(source):
    """The pictures of all records in order, and which of them are usable."""
    records = of_source(source, np.arange(len(source)))
    batches = list(faces.eval_batches(records, side=112, batch_size=8))
    return np.concatenate(batches), records.usable()


def test_nothing_takes_a_place_where_records_are_read_in_order(images, caplog):
    cut = images[13][: len(images[13]) // 2]
    source = source_with({13: cut, 2: EMPTY})
    pictures, usable = in_order(source)
    assert np.flatnonzero(~usable).tolist() == [2, 13]
    assert not pictures[[2, 13]].any()
    whole, all_usable = in_order(source_with({}))
    assert all_usable.all()
    np.testing.assert_array_equal(pictures[usable], whole[usable])
    epoch(source)  # what is known is not said again
    left_out = [line for line in caplog.messages if line.startswith("left out")]
    assert len(left_out) == 2
    assert source.counts() == {"empty": 1, "broken": 1}


def test_probes_are_without_broken_records(images):
    cut = images[13][: len(images[13]) // 2]
    source = source_with({13: cut, 2: EMPTY})
    rows = usable_first(source, 20, seed=3)
    assert sorted(rows) == [row for row in range(20) if row not in (2, 13)]
    every = usable_first(Kept(SyntheticFaces(IDENTITIES, EACH, seed=0)), 20, seed=3)
    assert list(rows) == [row for row in every if row not in (2, 13)]


def test_without_the_option_the_error_names_it(images):
    kept = Kept(SyntheticFaces(IDENTITIES, EACH, seed=0), {2: EMPTY})
    kept.record_name = lambda index: f"faces/{index}.jpg"
    wanted = r"faces/2\.jpg: not a picture: empty.*--config\.data\.skip_broken=True"
    for read in (epoch, in_order):
        with pytest.raises(DataError, match=wanted):
            read(kept)


def test_a_small_set_is_looked_through_when_it_is_opened(tmp_path, caplog):
    (tmp_path / "ann").mkdir()
    encoded = Kept(SyntheticFaces(1, 3, seed=0)).images
    two = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    two[0].save(tmp_path / "ann" / "two.gif", save_all=True, append_images=two[1:])
    for name, content in {
        "1.jpg": encoded[0],
        "2.jpg": encoded[1],
        "cut.jpg": encoded[2][:300],
        "empty.png": EMPTY,
    }.items():
        (tmp_path / "ann" / name).write_bytes(content)
    (tmp_path / "ann" / "notes.txt").write_text("no picture")
    config = base.get_config()
    config.data.source, config.data.path = "auto", str(tmp_path)
    config.data.skip_broken = True
    source = training_source(config)
    assert len(source) == 5
    assert source.counts() == {"broken": 1, "empty": 1, "animated": 1}
    said = caplog.text
    assert "data.skip_broken: 3 of 5 images left out: 1 animated, 1 broken, 1 e" in said
    assert "1 .txt" in said
    assert "notes.txt" not in said and "cut.jpg: not a picture, or a damaged" in said
