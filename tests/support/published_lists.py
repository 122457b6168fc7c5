"""AgeDB and CFP in the layouts of their authors, in miniature."""

import numpy as np
import scipy.io

from qface_jax.data_pipelines.sets import agedb, cfp
from support.image_files import encoded, noise

POINTS = np.random.default_rng(0).uniform(20, 90, (68, 2)).round(2)
_RECORD = [("name", object), ("age", object)]


def agedb_names(folds, pairs):
    """Names of the images, pair by pair; half the pairs of a fold are of one person."""
    names = []
    for pair in range(folds * pairs):
        other = 2 * pair + (pair % pairs >= pairs // 2)
        names += [f"{pair}_Person{2 * pair}_30_f", f"{pair}b_Person{other}_60_f"]
    return names


def write_splits(path, *, folds, pairs, packed=False, label=None, name=None, cut=False):
    """Writes a list of AgeDB; the changes are of the second fold."""
    names = iter(agedb_names(folds, pairs))
    splits = np.empty((folds, 1), object)
    for fold in range(folds):
        images = np.empty((2, pairs), object)
        for pair in range(pairs):
            for row in range(2):
                record = np.empty((1, 1), _RECORD)
                record[0, 0] = (next(names), np.array([[30.0]]))
                images[row, pair] = record
        labels = np.where(np.arange(pairs) < pairs // 2, 1.0, -1.0)[None]
        if fold == 1 and label is not None:
            labels[0, 0], labels[labels == 1] = label, label
        if fold == 1 and name is not None:
            images[0, 0][0, 0]["name"] = name
        if fold == 1 and cut:
            labels = labels[:, :-1]
        split = np.empty((1, 1), [("pairs", object), ("labels", object)])
        split[0, 0] = (images, labels)
        splits[fold, 0] = split
    scipy.io.savemat(path, {"splits": splits}, do_compression=packed)
    return path


def write_agedb(folder, *, folds, pairs):
    """Writes list, pictures and landmarks; returns the folder."""
    images = folder / agedb.FOLDER
    images.mkdir(parents=True)
    write_splits(folder / agedb.LIST_NAME, folds=folds, pairs=pairs)
    points = "\n".join(f"{x} {y}" for x, y in POINTS)
    picture = encoded(noise(112, 112))
    for name in agedb_names(folds, pairs):
        (images / f"{name}.jpg").write_bytes(picture)
        text = f"version: 1\nn_points: 68\n{{\n{points}\n}}\n"
        (images / f"{name}.pts").write_text(text)
    return folder


def write_cfp(folder, *, folds=10, pairs=2, people=6):
    """Writes lists and pictures of CFP; returns the folder.

    Person n of the lists has frontal images 2n + 1, 2n + 2 and profile image n + 1.
    """
    protocol = folder / "Protocol"
    views = {"F": ("frontal", 2), "P": ("profile", 1)}
    for kind, (view, count) in views.items():
        lines = []
        for person in range(people):
            place = folder / cfp.FOLDER / f"{person + 1:03d}" / view
            place.mkdir(parents=True)
            for image in range(count):
                (place / f"{image + 1:02d}.jpg").write_bytes(f"{place}{image}".encode())
                lines.append(
                    f"{len(lines) + 1} ../{cfp.FOLDER}/{person + 1:03d}/{view}/"
                    f"{image + 1:02d}.jpg"
                )
        protocol.mkdir(exist_ok=True)
        (protocol / f"Pair_list_{kind}.txt").write_text("\r\n".join(lines) + "\r\n")
    for kind, second in (("FF", lambda n: 2 * n + 2), ("FP", lambda n: n + 1)):
        for fold in range(folds):
            place = protocol / "Split" / kind / f"{fold + 1:02d}"
            place.mkdir(parents=True)
            for name, shift in (("same", 0), ("diff", 1)):
                lines = [
                    f"{2 * n + 1},{second((n + shift) % people)}"
                    for n in ((fold + pair) % people for pair in range(pairs))
                ]
                (place / f"{name}.txt").write_text("\n".join(lines))
    return folder
