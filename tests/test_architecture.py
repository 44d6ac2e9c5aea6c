"""Imports go one way, and files stay small."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parent.parent / "epmc_jax"

# Each layer may import what stands before it, and what stands with it.
LAYERS = (
    {"_types", "_jax_compat", "_hlo", "machines"},
    {"_kernels", "_partitioning"},
    {
        "_forward_mode",
        "_primitives",
        "_coding",
        "_codec",
        "_ordering",
        "_lagging",
        "_block_coding",
    },
    {"codecs"},
    {"policy", "policies"},
    {"passes"},
    {"transform"},
    {"exporting", "report", "planning"},
    {"_liveness", "_hlo_costs", "lanes", "scheduling", "simulating"},
    {"flax"},
    {"compressing"},
    {"__init__"},
)
# Order within the pass.
PASSES = (
    {"program"},
    {"zeros"},
    {"exactness", "ranges", "cut", "masks", "rows"},
    {"chains", "rewrites", "description"},
    {"stored"},
    {"notes"},
    {"selection"},
    {"blocks", "costs", "pins"},
    {"hiding"},
    {"backward_order", "carried", "casts", "crops", "draws", "encoding"},
    {"execution"},
    {"loops", "branches", "shards"},
    {"control_flow"},
    {"regions"},
)
FILES = sorted(PACKAGE.rglob("*.py"))


def _imports(path):
    """Modules of the package that `path` imports when it is imported."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{a.name}" for a in node.names)]
            yield from (n for n in names if n.startswith("epmc_jax."))
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("epmc_jax."))


def _level(layers, name):
    found = [i for i, layer in enumerate(layers) if name in layer]
    assert found, f"{name} has no place in the layers: add it to this test"
    return found[0]


def _is_module(folder, name):
    return (folder / name).exists() or (folder / f"{name}.py").exists()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    own = path.relative_to(PACKAGE).with_suffix("").parts
    for name in _imports(path):
        other = name.split(".")[1:]
        inside_passes = own[0] == other[0] == "passes" and own[1] != "__init__"
        if own[0] != other[0] and _is_module(PACKAGE, other[0]):
            assert _level(LAYERS, other[0]) <= _level(LAYERS, own[0]), name
        elif (
            inside_passes
            and len(other) > 1
            and _is_module(PACKAGE / "passes", other[1])
        ):
            assert _level(PASSES, other[1]) <= _level(PASSES, own[1]), name


# What jax documents for users and keeps from version to version.
STABLE_JAX = {
    "jax", "jax.ad_checkpoint", "jax.dtypes", "jax.export", "jax.ffi", "jax.lax",
    "jax.numpy", "jax.random", "jax.sharding", "jax.tree", "jax.tree_util",
    "jax.typing",
}  # fmt: skip
UNSTABLE_JAX = {
    "_src", "core", "custom_derivatives", "experimental", "extend", "interpreters",
    "lib", "util",
}  # fmt: skip


def _modules_of_jax(path):
    """Modules of jax that `path` imports, and attributes of jax that are modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] == "jax")
        elif isinstance(node, ast.ImportFrom) and node.module == "jax":
            yield from (f"jax.{a.name}" for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from [node.module] * str(node.module).startswith("jax")
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "jax":
            yield from [f"jax.{node.attr}"] * (node.attr in UNSTABLE_JAX)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_one_module_holds_all_that_depends_on_the_version_of_jax(path):
    if path.name != "_jax_compat.py":
        assert set(_modules_of_jax(path)) <= STABLE_JAX


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 400
