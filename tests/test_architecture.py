"""Direction of imports, lazy loading of heavy libraries, names and docstrings, and one home for each fact."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "spineseg"
MODULES = sorted(PACKAGE.rglob("*.py"))

BASE = {
    *("errors", "contrasts", "volume", "bids", "writing", "progress", "provenance", "segmentation", "series"),
    *(
        "code_digest",
        "file_digests",
        "measures",
        "parameters",
        "version",
        "spelling",
        "reading",
        "extras",
        "memory_limit",
    ),
}
BELOW_STUDY = {
    *("centerline", "metrics", "levels", "propseg", "deepseg", "quality", "perturbation", "studyfolder", "methods"),
}
ALLOWED = {
    **dict.fromkeys(BASE, BASE),
    "": {"version"},
    "api": BASE | BELOW_STUDY | {"decision", "study"},
    "centerline": BASE,
    "metrics": BASE,
    "levels": BASE | {"centerline", "metrics"},
    "phantom": BASE,
    "download": {"errors", "writing"},
    "propseg": BASE | {"centerline"},
    "deepseg": BASE | {"centerline"},
    "quality": BASE | {"centerline", "metrics", "deepseg"},
    "perturbation": BASE,
    "studyfolder": BASE,
    "methods": BASE | {"studyfolder", "centerline", "propseg", "deepseg"},
    "decision": BASE | {"studyfolder"},
    "report": BASE | {"studyfolder", "metrics", "decision", "centerline", "methods", "levels"},
    "study": BASE | BELOW_STUDY | {"decision"},
    "training": BASE | {"centerline", "metrics", "methods", "propseg", "deepseg", "quality", "phantom"},
    "__main__": {"cli"},
}
"""Each part of the package and the parts that it may import; cli may import all, and nothing imports cli."""

VAGUE = {"utils", "util", "helpers", "helper", "core", "common", "misc", "base", "tools"}


def part_of(path: Path) -> str:
    """The part of the package a module belongs to."""
    relative = path.relative_to(PACKAGE).with_suffix("")
    return "" if relative.parts[0] == "__init__" else relative.parts[0]


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, inside functions too, except those imported only for types."""
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


def test_no_module_imports_itself_through_others():
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES]
    modules = dict(zip(names, MODULES, strict=True))
    graph = {name: (imported(path) & modules.keys()) - {name} for name, path in modules.items()}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the cycle
    assert len(order) == len(MODULES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_torch_is_imported_in_deepseg_only(path):
    if "torch" in {name.split(".")[0] for name in imported(path)}:
        assert "deepseg" in path.relative_to(PACKAGE).parts or part_of(path) == "cli"
    assert not {name for name in imported(path) if name.split(".")[0] == "snakemake"}


def test_nothing_reads_the_shipped_configuration():
    assert not [path for path in MODULES if "config.yaml" in path.read_text()]


def test_module_names_are_short_and_modules_small():
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


HEAVY = ("torch", "pandas", "scipy.stats", "matplotlib", "seaborn", "snakemake", "jinja2")


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("spineseg.cli", (*HEAVY, "numpy", "nibabel")),
        ("spineseg.study.configuration", (*HEAVY, "numpy", "nibabel")),
        ("spineseg.study.worker", (*HEAVY, "numpy", "nibabel")),
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


RESULT_NAMES = {
    *("metrics.tsv", "agreement.tsv", "slices.tsv.gz", "slices.tsv", "kept.tsv", "timings.tsv", "images.tsv"),
    *("csa.tsv", "levels.tsv", "change.tsv"),
    *("decision.json", "decision.md", "lock.json", "exceptions.json", "membership.json", "file_digests.json"),
    *("study.json", "chunks", "kept_masks.json"),
}
"""Names in a results folder; only `spineseg.studyfolder.layout` makes paths of them."""

PATH_CALLS = {"Path", "open", "joinpath", "with_name", "glob", "rglob", "is_file", "table", "endswith", "match"}

FILES_OF_THE_USER = {("cli/decide.py", "decision.json")}
"""Defaults of options that may name any file, not one of a results folder."""


def result_names(path: Path) -> list[str]:
    """Names of files of a results folder that a module contains, as a path or alone."""
    tree = ast.parse(path.read_text())
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            continue
        parent = parents[node]
        while isinstance(parent, ast.JoinedStr):  # a part of an f-string
            parent = parents[parent]
        is_path = isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Div)
        if isinstance(parent, ast.Call):
            called = getattr(parent.func, "id", getattr(parent.func, "attr", ""))
            is_path |= called in PATH_CALLS
        is_key = isinstance(parent, ast.Dict) and node in parent.keys
        is_bare = node.value in RESULT_NAMES and not is_key and not isinstance(parent, ast.Expr | ast.keyword)
        if is_bare or (is_path and RESULT_NAMES & set(node.value.split("/"))):
            found.append(node.value)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_else_names_the_files_of_a_results_folder(path):
    name = path.relative_to(PACKAGE).as_posix()
    if part_of(path) == "studyfolder":
        return
    assert [found for found in result_names(path) if (name, found) not in FILES_OF_THE_USER] == []


def test_the_search_for_names_finds_them(tmp_path):
    module = tmp_path / "m.py"
    module.write_text(
        '"""Reads metrics.tsv."""\nhelp = print(help="metrics.tsv of the pilot")\na = root / "study/lock.json"\n'
        'b = folder.table(1, "metrics.tsv")\nc = {"chunks": 1}\nd = Path(f"{x}/images.tsv")\nE = "kept.tsv"\n'
    )
    assert sorted(result_names(module)) == ["/images.tsv", "kept.tsv", "metrics.tsv", "study/lock.json"]


STORED = {"files", "read_record", "read_rows", "read_text_table", "iterate_table"}


def test_only_the_study_folder_reads_its_records_and_tables():
    """Each file has one reader: other modules do not use these functions, except for records of their own step."""
    using = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if part_of(path) != "studyfolder" and imported(path) & {f"spineseg.studyfolder.files.{name}" for name in STORED}
    }
    assert using <= {"study/perturb.py"}  # finished images of a chunk, to resume from
