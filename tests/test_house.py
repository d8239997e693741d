"""The house: floors, rooms, and a test file for every module."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import custom_networks

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in ("custom_networks", "scripts")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
FLOORS = ("custom_networks", "scripts.core", "scripts.data", "scripts.experiments", "scripts.sharing")
# rooms of one floor that may import another
ARROWS = {
    ("data.cohorts", "data.dicom"),  # public sets that are published as DICOM, and one outcome of every import
    ("experiments.evaluate", "experiments.dose"),  # evaluate --dose
    ("experiments.evaluate", "experiments.quality"),  # evaluate --quality: the order in which to look at cases
    ("experiments.evidence", "experiments.evaluate"),
    ("experiments.evidence", "experiments.training"),
    ("sharing.demonstration", "sharing.package"),
    ("experiments.fractions", "experiments.dose"),  # dose of every fraction, and how EQD2 adds up
    ("experiments.fractions", "experiments.evaluate"),  # two contours side by side in one picture
    ("experiments.study", "experiments.evaluate"),  # a study trains and evaluates
    ("experiments.study", "experiments.training"),
    ("sharing.deploy", "sharing.contours"),
    ("sharing.deploy", "sharing.segment"),
    ("sharing.segment", "sharing.contours"),
}
# modules that another file tests; the list only shrinks
TESTED_ELSEWHERE = {
    "scripts.sharing.deploy.app": "tests/clients/test_deploy.py runs it in MONAI Deploy's own environment",
    **dict.fromkeys(
        (f"scripts.sharing.package.{name}" for name in ("contents", "verify")),
        "test_package.py and its neighbours run the verb over them",
    ),
    "scripts.benchmarks.loading": "test_data_benchmarks.py runs it beside its peers",
    "scripts.benchmarks.peer_loading": "test_data_benchmarks.py: nothing of it runs without its benchmark",
    "scripts.benchmarks.preprocessing": "test_data_benchmarks.py runs it beside its peers",
    "scripts.benchmarks.peer_preprocessing": "test_data_benchmarks.py: nothing of it runs without its benchmark",
    "scripts.benchmarks.benchmark": "test_networks.py and test_pretraining.py run the verb",
}


def within_type_checking(tree: ast.Module) -> set[ast.AST]:
    blocks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return {node for block in blocks for statement in block.body for node in ast.walk(statement)}


def imports(module: str) -> Iterator[str]:
    """Modules of this repository that a module imports, anywhere in it but for type checkers."""
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    hidden = within_type_checking(tree)
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            # `from scripts.core import files` names a module, `from scripts.core.files import …` what is in it
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in names]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in ("custom_networks", "scripts"))


def floor(module: str) -> int:
    """From the ground up; the command line and the benchmarks stand above all."""
    return next((i for i, name in enumerate(FLOORS) if f"{module}.".startswith(f"{name}.")), len(FLOORS))


def room(module: str) -> str:
    return ".".join(module.split(".")[1:3])


def test_imports_point_down() -> None:
    for module in MODULES:
        for other in imports(module):
            assert other in MODULES or other == "custom_networks", f"{module} imports {other}, which is no module"
            assert floor(other) <= floor(module), f"{module} imports {other}, which stands above it"


def test_rooms_of_one_floor_import_each_other_only_as_said() -> None:
    found = {
        (room(module), room(other))
        for module in MODULES
        for other in imports(module)
        if floor(module) == floor(other) and 2 <= floor(module) < len(FLOORS) and room(module) != room(other)
    }
    assert found == ARROWS


def test_no_circle() -> None:
    graph = {module: {other for other in imports(module) if other != module} for module in MODULES}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join((*above[above.index(module) :], module))
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_scripts_is_no_package_and_nothing_escapes_the_formatter() -> None:
    assert not list((ROOT / "scripts").rglob("__init__.py"))
    escape = "fmt" + r":\s*(skip|off)"
    for folder in ("custom_networks", "scripts", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not re.search(escape, path.read_text("utf-8")), path


def test_every_module_has_a_test_file_of_its_own() -> None:
    missing = set()
    for module, path in MODULES.items():
        if path.name not in ("__init__.py", "__main__.py"):
            place = path.relative_to(ROOT).parent
            if not (ROOT / "tests" / place / f"test_{path.name}").is_file():
                missing.add(module)
    assert missing == set(TESTED_ELSEWHERE)


def test_public_names_are_the_same_to_an_editor() -> None:
    tree = ast.parse(MODULES["custom_networks"].read_text("utf-8"))
    seen = {
        alias.name: str(node.module).removeprefix("custom_networks.")
        for node in within_type_checking(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == custom_networks._HOME
    assert list(custom_networks.__all__) == sorted(seen)
