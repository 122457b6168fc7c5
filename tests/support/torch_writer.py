"""Writes PyTorch's two file formats by hand, for files that torch would not write."""

import io
import pickle
import struct
import zipfile
from typing import ClassVar

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage"}


class Call:
    """Pickles as a call of a global with arguments."""

    def __init__(self, module, name, *args):
        self.function, self.args = Global(module, name), args


class Global:
    def __init__(self, module, name):
        self.module, self.name = module, name


class Stored:
    def __init__(self, key, values, location):
        self.key, self.values, self.location = key, values, location


class _Pickler(pickle._Pickler):
    """Protocol 2, with globals that need not exist here and storages by key."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def persistent_id(self, item):
        if not isinstance(item, Stored):
            return None
        kind = Global("torch", STORAGES[item.values.dtype.str[1:]])
        identity = ("storage", kind, item.key, item.location, item.values.size)
        return (*identity, None) if self.legacy else identity

    def _global(self, item):
        self.write(pickle.GLOBAL + f"{item.module}\n{item.name}\n".encode())

    def _call(self, item):
        self.save(item.function)
        self.save(item.args)
        self.write(pickle.REDUCE)

    dispatch[Global] = _global
    dispatch[Call] = _call


def tensor(key, values, *, location="cpu", offset=0, shape=None, strides=None):
    """A tensor whose storage has `values`, and which may claim another view of them."""
    shape = values.shape if shape is None else shape
    steps = [step // values.itemsize for step in values.strides]
    strides = tuple(steps) if strides is None else strides
    hooks = Call("collections", "OrderedDict")
    return Call(
        "torch._utils", "_rebuild_tensor_v2", Stored(key, values.ravel(), location),
        offset, shape, strides, False, hooks,
    )  # fmt: skip


def _dump(content, *, legacy):
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol=2)
    pickler.legacy = legacy
    pickler.dump(content)
    return buffer.getvalue()


def _storages(content):
    if isinstance(content, dict):
        for leaf in content.values():
            yield from _storages(leaf)
    elif isinstance(content, Call):
        for leaf in content.args:
            if isinstance(leaf, Stored):
                yield leaf


def write_zip(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _dump(content, legacy=False))
        archive.writestr("archive/byteorder", "little")
        stored = {each.key: each.values for each in _storages(content)}
        for key, values in stored.items():
            archive.writestr(f"archive/data/{key}", values.tobytes())
        archive.writestr("archive/version", "3\n")


def write_legacy(path, content):
    machine = {"protocol_version": PROTOCOL, "little_endian": True}
    storages = list({each.key: each for each in _storages(content)}.values())
    parts = [pickle.dumps(part, 2) for part in (MAGIC, PROTOCOL, machine)]
    parts += [_dump(content, legacy=True)]
    parts += [pickle.dumps([stored.key for stored in storages], 2)]
    for stored in storages:
        parts += [struct.pack("<q", stored.values.size), stored.values.tobytes()]
    path.write_bytes(b"".join(parts))


def state_dict(arrays, **options):
    """Arrays by name as tensors of a file."""
    return {
        name: tensor(str(row), np.ascontiguousarray(values), **options)
        for row, (name, values) in enumerate(arrays.items())
    }
