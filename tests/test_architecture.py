"""Imports point one way, heavy libraries load only where they are needed, and names say something."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spineseg"
MODULES = sorted(PACKAGE.rglob("*.py"))

BASE = {
    "errors",
    "contrasts",
    "volume",
    "bids",
    "writing",
    "progress",
    "provenance",
    "segmentation",
    "series",
    "templates",
}
ALLOWED = {
    **dict.fromkeys(BASE, BASE),
    "training_data": BASE,
    "centerline": BASE | {"training_data", "phantom"},
    "metrics": BASE,
    "levels": BASE | {"centerline", "metrics"},
    "phantom": BASE,
    "propseg": BASE | {"centerline"},
    "deepseg": BASE | {"centerline", "training_data", "phantom"},
    "quality": BASE | {"centerline", "metrics", "deepseg", "propseg", "phantom", "training_data"},
    "decision": {"errors", "contrasts", "bids", "writing", "progress", "provenance"},
    "foreign": BASE,
    "perturbation": BASE,
    "options": BASE | {"propseg", "deepseg"},
    "methods": BASE | {"foreign", "options", "centerline", "propseg", "deepseg"},
    "report": BASE | {"metrics", "decision", "centerline"},
    "study": BASE | {"centerline", "metrics", "methods", "options", "foreign", "perturbation", "decision", "quality"},
    "__main__": {"cli"},
}
"""Part of the package to the parts it may import; cli may import all, and nothing imports cli."""

VAGUE = {"utils", "util", "helpers", "helper", "core", "common", "misc", "base", "tools"}


def part_of(path: Path) -> str:
    """The part of the package a module belongs to."""
    relative = path.relative_to(PACKAGE).with_suffix("")
    return "" if relative.parts[0] == "__init__" else relative.parts[0]


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports anywhere, inside functions too, but not for types only."""
    names = set()
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def own_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports."""
    existing = {part_of(module) for module in MODULES}
    parts = {name.split(".")[1] for name in imported(path) if name.startswith("spineseg.")}
    return parts & existing


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = part_of(path)
    if part == "cli":
        return
    assert own_parts(path) <= ALLOWED.get(part, set()) | {part}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_is_imported_in_deepseg_only(path):
    if "torch" in {name.split(".")[0] for name in imported(path)}:
        assert part_of(path) in ("deepseg", "cli")
    assert not {name for name in imported(path) if name.split(".")[0] == "snakemake"}


def test_nothing_reads_the_shipped_configuration():
    assert not [path for path in MODULES if "config.yaml" in path.read_text()]


def test_modules_have_names_and_sizes_that_people_can_hold():
    assert not [path for path in MODULES if path.stem in VAGUE]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert not {name: length for name, length in lengths.items() if length > 400}


def test_public_objects_are_documented():
    missing = []
    for path in MODULES:
        tree = ast.parse(path.read_text())
        if not ast.get_docstring(tree):
            missing.append(str(path))
        for node in tree.body:
            is_object = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if is_object and not node.name.startswith("_") and not ast.get_docstring(node):
                missing.append(f"{path}: {node.name}")
    assert not missing


HEAVY = ("torch", "pandas", "scipy.stats", "matplotlib", "seaborn", "snakemake")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("spineseg.cli", (*HEAVY, "numpy", "nibabel")),
        ("spineseg.study.configuration", (*HEAVY, "numpy", "nibabel")),
        ("spineseg.study.index", (*HEAVY, "numpy", "nibabel")),
        ("spineseg.propseg.segment", HEAVY),
        ("spineseg.centerline.estimate", HEAVY),
    ],
)
def test_start_up_loads_nothing_heavy(module, absent):
    code = f"import sys, {module}; print(*[name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_path_of_this_machine_is_committed():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    texts = [ROOT / name for name in listed.stdout.split() if name.endswith((".py", ".md", ".smk", ".yaml", ".toml"))]
    home = "/" + "work/"
    assert not [str(path) for path in texts if path.is_file() and home in path.read_text(errors="ignore")]
