"""The tables of everything that has a name: one line here makes a new file known.

A name stands for an object in a module, written `module:object`. The module is imported
when the name is first looked up, so that a name costs nothing until it is used.

Where a name is expected, a user's own object may be named in the same form, as in
`--config.loss.margin=my_lab.losses:curvy`, or `my_losses.py:curvy` for a file. Such a
name is followed only after `trust`: it stood on the command line or in a config that is
a `.py` file. A config that was read from a run's folder, which may be somebody else's,
is not followed on its word alone; `--trust-code` trusts all it names.
"""

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from qface_jax.errors import ConfigError

_trusted: set[str] = set()
_searched: list[str] = []  # folders in which code of users' was looked for
_recorded: list[str] = []  # likewise, when a run that is read was started
_TRUST_ALL = "*"


def is_external(name: str) -> bool:
    """Returns whether a name is of the form `module:object`."""
    module, colon, attribute = name.partition(":")
    return bool(module and colon and attribute)


def trust(name: str) -> None:
    """Lets a name of the form `module:object` be followed."""
    _trusted.add(name)


def trust_all() -> None:
    """Lets every name be followed (`--trust-code`)."""
    _trusted.add(_TRUST_ALL)


def code_folders() -> list[str]:
    """Returns the folders in which code of users' was looked for, absolute."""
    return list(_searched)


def look_in(folders: Collection[str]) -> None:
    """Lets names that are trusted be looked for in further folders, too.

    Args:
        folders: In which a run found its code when it was started.
    """
    _recorded.extend(folder for folder in folders if folder not in _recorded)


class Table(Collection[str]):
    """Objects of one kind by name.

    Attributes:
        kind: What the objects are, in words, for messages.
    """

    def __init__(self, kind: str, form: str, entries: dict[str, str]):
        """Makes a table.

        Args:
            kind: What the objects are, in words.
            form: Class of the objects, as `module:class`.
            entries: Name -> `module:object`.
        """
        self.kind = kind
        self._form = form
        self._entries = entries

    def __iter__(self) -> Iterator[str]:
        """Yields the names of the package's own objects."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Returns the number of the package's own objects."""
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        """Returns whether a name is one of the table's, or of the form of others."""
        return isinstance(name, str) and (name in self._entries or is_external(name))

    def __getitem__(self, name: str) -> Any:
        """Returns the object of that name.

        Args:
            name: One of the table's, or `module:object`.

        Raises:
            ConfigError: the name is unknown, not trusted, or leads to something that is
                not of this table's kind.
        """
        if name in self._entries:
            return _follow(self._entries[name])
        if not is_external(name):
            raise ConfigError(
                f"{self.kind} {name!r}: unknown; must be one of "
                f"{', '.join(sorted(self._entries))}, or module:object for your own"
            )
        if name not in _trusted and _TRUST_ALL not in _trusted:
            raise ConfigError(
                f"{self.kind} {name}: is code that the run's folder names, and is not "
                "imported on its word alone; if you trust the folder, name it again on "
                "the command line, or give --trust-code"
            )
        entry = self._follow_external(name)
        form = _follow(self._form)
        if not isinstance(entry, form):
            raise ConfigError(
                f"{self.kind} {name}: got {_described(entry)}, expected a "
                f"{form.__module__}.{form.__qualname__}"
            )
        return entry

    def _follow_external(self, name: str) -> Any:
        module_name, _, attribute = name.rpartition(":")
        try:
            module = _import(module_name)
        except ConfigError as error:
            raise ConfigError(f"{self.kind} {name}: {error}") from error
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{self.kind} {name}: {error}; the folder of a module of yours must be "
                f"the current one or be in PYTHONPATH; looked in {', '.join(_searched)}"
            ) from error
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            raise ConfigError(
                f"{self.kind} {name}: {type(error).__name__}: {error} "
                f"({last.filename}, line {last.lineno})"
            ) from error
        if not hasattr(module, attribute):
            public = [word for word in vars(module) if not word.startswith("_")]
            raise ConfigError(
                f"{self.kind} {name}: {module_name} has no {attribute}; it has: "
                f"{', '.join(public)}"
            )
        return getattr(module, attribute)


def _follow(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _import(name: str) -> Any:
    """Imports a module by its name, or a .py file by its path."""
    # A console command, unlike `python -m`, does not look in the current folder.
    folders = [str(Path.cwd()), *_recorded]
    for folder in folders:
        _search(folder)
    if not name.endswith(".py"):
        return importlib.import_module(name)
    places = [(Path(folder) / Path(name).expanduser()).resolve() for folder in folders]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise ConfigError(f"there is no file {' or '.join(map(str, places))}")
    _search(str(path.parent))  # it may import what lies beside it
    # A file that was changed is another module.
    content = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()
    module_name = f"qface_user_{path.stem}_{content[:12]}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def _search(folder: str) -> None:
    if folder not in sys.path:
        sys.path.append(folder)
    if folder not in _searched:
        _searched.append(folder)


def _described(entry: Any) -> str:
    if isinstance(entry, type):
        return f"the class {entry.__qualname__}"
    return f"an object of type {type(entry).__qualname__}"


MARGINS = Table(
    "margin",
    "qface_jax.losses.margins.margin:MarginEntry",
    {
        "softmax": "qface_jax.losses.margins.softmax:MARGIN",
        "sphereface": "qface_jax.losses.margins.sphereface:MARGIN",
        "cosface": "qface_jax.losses.margins.cosface:MARGIN",
        "arcface": "qface_jax.losses.margins.arcface:MARGIN",
        "curricularface": "qface_jax.losses.margins.curricularface:MARGIN",
        "magface": "qface_jax.losses.margins.magface:MARGIN",
        "adaface": "qface_jax.losses.margins.adaface:MARGIN",
        "combined": "qface_jax.losses.margins.combined:MARGIN",
    },
)
OBJECTIVES = Table(
    "objective",
    "qface_jax.objectives.objective:ObjectiveEntry",
    {
        "classification": "qface_jax.objectives.classification:OBJECTIVE",
        "qgface": "qface_jax.objectives.qgface:OBJECTIVE",
        "octuplet": "qface_jax.objectives.octuplet:OBJECTIVE",
        "siamese": "qface_jax.objectives.siamese:OBJECTIVE",
        "recognizability": "qface_jax.objectives.recognizability:OBJECTIVE",
    },
)
INIT_FROM = "init_from"  # as a backbone: that of the run to start from
BACKBONES = Table(
    "backbone",
    "qface_jax.models.network:BackboneEntry",
    {
        "iresnet18": "qface_jax.models.iresnet:IRESNET18",
        "iresnet34": "qface_jax.models.iresnet:IRESNET34",
        "iresnet50": "qface_jax.models.iresnet:IRESNET50",
        "iresnet100": "qface_jax.models.iresnet:IRESNET100",
        "iresnet200": "qface_jax.models.iresnet:IRESNET200",
        "ir_18": "qface_jax.models.adaface_ir:IR_18",
        "ir_34": "qface_jax.models.adaface_ir:IR_34",
        "ir_50": "qface_jax.models.adaface_ir:IR_50",
        "ir_101": "qface_jax.models.adaface_ir:IR_101",
        "ir_se_50": "qface_jax.models.adaface_ir:IR_SE_50",
        "mobilefacenet": "qface_jax.models.mobilefacenet:MOBILEFACENET",
        "mobilefacenet_relu6": "qface_jax.models.mobilefacenet:MOBILEFACENET_RELU6",
        "resnet50": "qface_jax.models.resnet:RESNET50",
        "mobilenet_v2": "qface_jax.models.mobilenet_v2:MOBILENET_V2",
        "face_transformer": "qface_jax.models.face_transformer:FACE_TRANSFORMER",
        "face_transformer_p12s8": (
            "qface_jax.models.face_transformer:FACE_TRANSFORMER_P12S8"
        ),
        "mini": "qface_jax.models.small:MINI",
        "tiny": "qface_jax.models.small:TINY",
        "onnx": "qface_jax.models.onnx.backbone:ONNX",
    },
)
SOURCES = Table(
    "source",
    "qface_jax.data_pipelines.sources.source:SourceEntry",
    {
        "synthetic": "qface_jax.data_pipelines.synthetic.faces:SOURCE",
        "auto": "qface_jax.data_pipelines.sources.source:DETECTED",
        # Asked in this order what lies at a path: last the one that takes any folder.
        "mxnet": "qface_jax.data_pipelines.sources.mxnet_source:SOURCE",
        "array_record": "qface_jax.data_pipelines.sources.array_record_source:SOURCE",
        "scface": "qface_jax.data_pipelines.sources.scface_source:SOURCE",
        "folder": "qface_jax.data_pipelines.sources.image_folder:SOURCE",
    },
)
RECIPES = Table(
    "degradation",
    "qface_jax.data_pipelines.degradation.recipe:Recipe",
    {
        "clean": "qface_jax.data_pipelines.degradation.clean:RECIPE",
        "adaface": "qface_jax.data_pipelines.degradation.adaface:RECIPE",
        "resolution": "qface_jax.data_pipelines.degradation.resolution:RECIPE",
        "qgface": "qface_jax.data_pipelines.degradation.qgface:RECIPE",
        "octuplet": "qface_jax.data_pipelines.degradation.octuplet:RECIPE",
        "recognizability": (
            "qface_jax.data_pipelines.degradation.recognizability:RECIPE"
        ),
        "unrecognizable": "qface_jax.data_pipelines.degradation.unrecognizable:RECIPE",
    },
)
PROTOCOLS = Table(
    "protocol",
    "qface_jax.evals.protocols.protocol:ProtocolEntry",
    {
        "verification": "qface_jax.evals.protocols.verification:PROTOCOL",
        "xqlfw": "qface_jax.evals.protocols.xqlfw:PROTOCOL",
        "ijbb": "qface_jax.evals.protocols.ijb:IJBB",
        "ijbc": "qface_jax.evals.protocols.ijb:IJBC",
        "tinyface": "qface_jax.evals.protocols.tinyface:PROTOCOL",
        "scface": "qface_jax.evals.protocols.scface:PROTOCOL",
        "survface": "qface_jax.evals.protocols.survface:PROTOCOL",
    },
)
QUALITY_SCORES = Table(
    "quality score",
    "qface_jax.inference.quality_score:QualityScore",
    {
        "norm": "qface_jax.inference.feature_norm:SCORE",
        "ers": "qface_jax.inference.embedding_recognizability:SCORE",
        "ri": "qface_jax.inference.recognizability_index:SCORE",
    },
)
EXPORT_FORMATS = Table(
    "export format",
    "qface_jax.export.subject:Format",
    {
        "onnx": "qface_jax.export.onnx_file:ONNX",
        "stablehlo": "qface_jax.export.stablehlo:STABLEHLO",
        "safetensors": "qface_jax.export.safetensors_file:SAFETENSORS",
        "tflite": "qface_jax.export.tflite:TFLITE",
    },
)
# The package's own are in the table CONFIGS of each file in configs/.
CONFIGS = Table("config", "collections.abc:Callable", {})
COMMANDS = Table(
    "command",
    "qface_jax.launch.commands.command:Command",
    {
        "train": "qface_jax.launch.commands.train:COMMAND",
        "eval": "qface_jax.launch.commands.evaluate:COMMAND",
        "import": "qface_jax.launch.commands.import_model:COMMAND",
        "embed": "qface_jax.launch.commands.embed:COMMAND",
        "compare": "qface_jax.launch.commands.compare:COMMAND",
        "identify": "qface_jax.launch.commands.identify:COMMAND",
        "export": "qface_jax.launch.commands.export:COMMAND",
        "plan": "qface_jax.launch.commands.plan:COMMAND",
        "data": "qface_jax.launch.commands.data.actions:COMMAND",
        "quality": "qface_jax.launch.commands.quality.actions:COMMAND",
        "gst": "qface_jax.launch.commands.gst:COMMAND",
        "report": "qface_jax.launch.commands.report:COMMAND",
        "ablation": "qface_jax.launch.commands.ablation:COMMAND",
        "completion": "qface_jax.launch.commands.completion:COMMAND",
    },
)
