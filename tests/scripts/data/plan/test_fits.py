from __future__ import annotations

import json
from pathlib import Path

import pytest

from custom_networks.errors import CaseError
from scripts.data.plan.fits import fits, overridden, table
from scripts.data.plan.memory import Step, largest_batch
from scripts.data.plan.plan import read_train_config

ROOT = Path(__file__).resolve().parents[4]


def test_table_says_what_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = {"patch_size": [16, 16, 16], "features": 4, "sw_batch_size": 2, "kernel_sizes": [3, 3], "strides": [2]}
    small |= {"deep_supervision": 0}
    (tmp_path / "small.json").write_text(json.dumps(small))
    bundle = ROOT / "bundles/organ_pocketnet"
    fits(str(bundle), memory_gb=4, overrides=str(tmp_path / "small.json"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "organ_pocketnet, patches of 16 x 16 x 16, GiB of live tensors:"
    assert lines[2] == "| precision | training, 1 patch | 2 patches | inference, 2 windows | largest batch in 4 GiB |"
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    assert [row[0] for row in cells] == ["bf16", "fp32"]
    step = Step({**read_train_config(bundle), **small}, precision="fp32", memory=4 * 2**30)
    batch, (one, _) = largest_batch(step, 4 * 2**30)
    assert cells[1][1] == f"{one / 2**30:.2f}"
    assert cells[1][4] == str(batch)


def test_a_nested_override_takes_its_place() -> None:
    config = read_train_config(ROOT / "bundles/organ_pocketnet") | {"patch_size": [16, 16, 16], "strides": [2]}
    config |= {"kernel_sizes": [3, 3], "deep_supervision": 0, "features": 4}
    changed = overridden(config, {"network_def#features": 16, "batch_size": 1})
    assert changed["network_def"]["features"] == 16
    assert config["network_def"]["features"] == "@features"
    assert Step(changed).training_peak(1) > 2 * Step(config).training_peak(1)
    for wrong in ("network#features#x", "nothing#features"):
        with pytest.raises(CaseError, match=f"the override {wrong} names nothing"):
            overridden(config, {wrong: 1})


def test_nothing_fits_is_said() -> None:
    config = {"_name_": "b", "patch_size": [8, 8, 8]}
    row = {"precision": "fp32", "one": 2**31, "two": 2**32, "inference": 2**30, "batch": 0}
    assert table(config, [row], 1.5).splitlines()[-1] == "| fp32 | 2.00 | 4.00 | 1.00 | none |"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory_gb": 0}, "not a positive number"),
        ({"bundle": "nowhere"}, "cannot be read"),
        ({"overrides": "nothing.json"}, "nothing.json cannot be read"),
    ],
)
def test_refusals(options: dict[str, str], message: str) -> None:
    with pytest.raises(CaseError, match=message):
        fits(**{"bundle": str(ROOT / "bundles/organ_pocketnet"), **options})  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_table_of_a_readme_is_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    bundle = ROOT / "bundles/organ_pocketnet"
    fits(str(bundle), memory_gb=24)
    printed = capsys.readouterr().out.split("\n\n", 1)[1].strip()
    assert printed in (bundle / "docs/README.md").read_text(encoding="utf-8")
