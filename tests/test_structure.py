"""What the tree promises: directions of imports, packages, declared dependencies."""

import ast
import graphlib
import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

from qface_jax import tables

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAPPED = {"configs": "configs", "data_pipelines": "data_pipelines", "launch": "launch"}
# Import name -> distribution, where they differ.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "ai_edge_litert": "ai-edge-litert",
    "array_record": "array-record",
    "cv2": "opencv-python-headless",
    "ml_collections": "ml-collections",
    "orbax": "orbax-checkpoint",
    "tensorflow": "tensorflow",
    "tensorflow_datasets": "tensorflow-datasets",
}


def sources():
    for folder in ("qface_jax", *MAPPED):
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts if parts[0] == "qface_jax" else ("qface_jax", *parts))


def imported(path):
    """Full names of everything a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def inside(name, packages):
    return any(name == p or name.startswith(f"{p}.") for p in packages)


# Packages from top to bottom: each imports only those below it.
ORDER = (
    "launch", "export", "api", "ablation", "planning", "train", "objectives",
    "inference",
    "report", "weights", "evals", "settings", "data_pipelines", "runs", "processes",
    "configs", "sharded", "models", "losses", "tables", "options", "restricted_pickle",
    "storage", "errors",
)  # fmt: skip
# Libraries that are hard to replace -> the only places that know them.
ONLY = {
    "ai_edge_litert": ("qface_jax.export.tflite",),
    "array_record": (
        "qface_jax.data_pipelines.sources.array_record_source",
        "qface_jax.data_pipelines.tools.faces_builder",
    ),
    "clu": ("qface_jax.runs.metrics",),
    "cv2": ("qface_jax.data_pipelines.tools.detection",),
    "flax.linen": ("qface_jax.models",),
    "jax2onnx": ("qface_jax.export.onnx_network",),
    "jinja2": ("qface_jax.report.page",),
    "matplotlib": ("qface_jax.report",),
    "onnx": ("qface_jax.weights.onnx_contents", "qface_jax.export.onnx_network"),
    "onnxruntime": (
        "qface_jax.weights.parity",
        "qface_jax.export.onnx_network",
        "qface_jax.export.onnx_file",
    ),
    "orbax": ("qface_jax.runs.checkpoint",),
    "pyarrow": ("qface_jax.inference.feature_file",),
    "safetensors": (
        "qface_jax.weights.state_dict",
        "qface_jax.export.safetensors_file",
    ),
    "scipy": ("qface_jax.evals.measures.quality_scores",),
    "tensorflow_datasets": (
        "qface_jax.data_pipelines.sources.array_record_source",
        "qface_jax.data_pipelines.tools.faces_builder",
        "qface_jax.data_pipelines.tools.importer",
    ),
    "tqdm": ("qface_jax.runs.progress",),
}
WITHOUT = {
    "qface_jax.losses": ("flax.linen", "optax", "ml_collections", "tensorflow"),
    "qface_jax.models": ("optax", "tensorflow"),
    "qface_jax.data_pipelines": ("jax", "flax", "optax"),
    "qface_jax.evals": ("jax", "flax", "tensorflow"),
    "qface_jax.train.step": ("ml_collections",),
}
# The degradation as jax functions, a part of the training step.
ON_DEVICE = "qface_jax.data_pipelines.device_degradation"


def package(name):
    return name.split(".")[1] if "." in name else ""


def test_imports_only_run_downward():
    breaches = []
    for path in sources():
        name = module_name(path).removesuffix(".__init__")
        for target in imported(path):
            if not target.startswith("qface_jax."):
                continue
            who, whom = package(name), package(target)
            # The package itself names what is public, and imports it when asked for.
            if who in (whom, "") or whom == "__version__":
                continue
            if ORDER.index(who) > ORDER.index(whom):
                breaches.append(f"{name} imports {target}")
    assert breaches == []


def test_no_module_imports_itself_through_others():
    names = {module_name(path).removesuffix(".__init__"): path for path in sources()}
    graph = {}
    for name, path in names.items():
        graph[name] = {
            target if target in names else target.rpartition(".")[0]
            for target in imported(path)
        } & names.keys()
    tuple(graphlib.TopologicalSorter(graph).static_order())  # raises, and names it


def test_a_folder_is_taken_in_at_a_glance():
    modules = Counter(
        module_name(path).rpartition(".")[0]
        for path in sources()
        if path.name != "__init__.py"
    )
    assert modules["qface_jax"] <= 5
    assert {name: n for name, n in modules.items() if n > 15} == {}


def strings_compared(tree):
    """Constants that are compared, matched, or looked up in a dict or table."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            compared = [node.left, *node.comparators]
        elif isinstance(node, ast.MatchValue):
            compared = [node.value]
        elif isinstance(node, ast.Dict):
            compared = [key for key in node.keys if key is not None]
        elif isinstance(node, ast.Subscript):
            compared = [node.slice]
        else:
            continue
        for part in compared:
            yield from (
                inner.value
                for inner in ast.walk(part)
                if isinstance(inner, ast.Constant)
            )


# Where an objective's or a protocol's name may stand.
NAMING = (
    "qface_jax.objectives", "qface_jax.evals.protocols", "qface_jax.configs",
    "qface_jax.tables",
)  # fmt: skip


def test_nothing_asks_for_an_objective_or_a_protocol_by_name():
    names = {*tables.OBJECTIVES, *tables.PROTOCOLS}
    breaches = [
        f"{module_name(path)}: {text!r}"
        for path in sources()
        if not inside(module_name(path), NAMING)
        for text in strings_compared(ast.parse(path.read_text(encoding="utf-8")))
        if text in names
    ]
    assert breaches == []


def test_libraries_stay_where_they_belong():
    breaches = []
    for path in sources():
        name = module_name(path)
        for target in imported(path):
            for library, owners in ONLY.items():
                if inside(target, [library]) and not inside(name, owners):
                    breaches.append(f"{name} imports {target}")
            for owner, libraries in WITHOUT.items():
                if inside(name, [owner]) and inside(target, libraries):
                    if not inside(name, [ON_DEVICE]):
                        breaches.append(f"{name} imports {target}")
    assert breaches == []


def test_the_package_list_is_that_of_the_folders():
    folders = {
        module_name(path).removesuffix(".__init__")
        for path in sources()
        if path.name == "__init__.py"
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders
    for path in sources():
        assert (path.parent / "__init__.py").is_file(), f"{path.parent}: no __init__.py"


def test_every_import_is_a_declared_dependency():
    declared = {
        re.match(r"[A-Za-z0-9_.-]+", line).group().lower()
        for line in (
            *PROJECT["project"]["dependencies"],
            # What a message names where it is not installed.
            *PROJECT["project"]["optional-dependencies"]["align"],
            *PROJECT["project"]["optional-dependencies"]["export"],
            *PROJECT["project"]["optional-dependencies"]["import"],
            *PROJECT["project"]["optional-dependencies"]["parquet"],
            *PROJECT["project"]["optional-dependencies"]["tflite"],
        )
    }
    names = {target.split(".")[0] for path in sources() for target in imported(path)}
    third_party = names - set(sys.stdlib_module_names) - {"qface_jax", "__future__"}
    missing = {
        name
        for name in third_party
        if DISTRIBUTIONS.get(name, name).lower() not in declared
    }
    assert missing == set()


def test_every_dependency_has_an_upper_bound_or_is_listed():
    unbounded = {
        line.split(">")[0]
        for line in PROJECT["project"]["dependencies"]
        if "<" not in line.split(";")[0]
    }
    # It has kept its interface for years.
    assert unbounded == {"importlib-resources"}


def test_no_drawers():
    assert not {p.stem for p in sources()} & {"utils", "helpers", "common", "misc"}
    stdlib = set(sys.stdlib_module_names)
    assert not {p.stem for p in sources()} & (stdlib - {"__init__"})
