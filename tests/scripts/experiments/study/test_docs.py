"""docs/studies.md names every key of the schema, and its example is a study."""

import inspect
import json
import re
from pathlib import Path

from scripts.experiments.study.definition import SCHEMA, read_study
from scripts.experiments.study.study import study

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs/studies.md").read_text()


def test_keys() -> None:
    schema = json.loads(SCHEMA.read_text())
    keys = set(schema["properties"]) - {"$schema"}
    for entry in ("arm", "stage", "table"):
        keys |= set(schema["$defs"][entry]["properties"])
    for key in keys - {"layout", "sets", "heading", "classes", "arms"}:
        assert f"`{key}`" in PAGE, key
    for layout in schema["$defs"]["table"]["properties"]["layout"]["enum"]:
        assert f"`{layout}`" in PAGE


def test_the_example(tmp_path: Path) -> None:
    (example,) = re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "study.json").write_text(example)
    assert list(read_study(str(tmp_path / "study.json")).arms) == ["PocketNet", "U-Net"]


def test_options_and_files() -> None:
    options = set(inspect.signature(study).parameters)
    named = set(re.findall(r"`--([a-z_]+)", PAGE))
    assert named <= options
    for line in re.findall(r"^python -m scripts study (.*)$", PAGE, flags=re.MULTILINE):
        assert set(re.findall(r"--([a-z_]+)", line)) <= options
    for file in re.findall(r"`(scripts/[\w/.]+\.json)`", PAGE):
        assert (ROOT / file).is_file()
