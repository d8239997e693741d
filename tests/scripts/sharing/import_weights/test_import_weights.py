"""From the published file to a label map and on to stage 3, through the verb and the bundles as they are shipped."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from custom_networks import CaseError, load_pretrained
from scripts.__main__ import main
from scripts.sharing.import_weights.stunet import rows_by_our_classes
from scripts.sharing.segment.bundle import OpenBundle

ROOT = Path(__file__).resolve().parents[4]
BUNDLES, PAGE = ROOT / "bundles", ROOT / "docs/published_weights.md"


@pytest.fixture
def imported(peer, checkpoint, tmp_path: Path, capsys) -> Path:
    source = checkpoint(peer)
    assert main(["import_weights", "stunet", str(source), "--output", str(tmp_path / "weights")]) == 0
    printed = capsys.readouterr().out
    assert "model.pt: tiny, 3.6" in printed, printed
    assert f"--bundle bundles/gynbtnet_finetune --weights {tmp_path}/weights/model.pt" in printed
    noted = json.loads((tmp_path / "weights/model.json").read_text())
    assert noted["source"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert str(tmp_path) not in (tmp_path / "weights/model.json").read_text()
    return tmp_path / "weights/model.pt"


def test_segments_as_the_published_network_would(peer, imported: Path, tmp_path: Path) -> None:
    """One window, so that the peer can follow: z-score, (z, y, x), argmax, our class order; the scan is stored in LPS."""
    image = np.random.default_rng(0).normal(0, 200, (40, 32, 24)).round().astype(np.float32)
    # a scan that lies the other way round in x and y than the weights know it
    affine = np.diag([-1.5, -1.5, 1.5, 1])
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "scan.nii.gz")
    opened = OpenBundle(BUNDLES / "gynbtnet_finetune", str(imported), tmp_path / "out", "cpu")
    assert opened.settings["orientation"] == "RAS"
    assert opened.evaluator.inferer.roi_size == [128, 128, 128]
    opened.evaluator.inferer.roi_size = [64, 64, 64]  # an eighth of the time
    found = np.asarray(nibabel.load(opened.predict(tmp_path / "scan.nii.gz")).dataobj).astype(int)
    ras = torch.tensor(image[::-1, ::-1].copy())
    ras = (ras - ras.mean()) / ras.std(unbiased=False)
    padding = [(64 - n) // 2 for n in (24, 32, 40)]
    padded = torch.nn.functional.pad(ras.permute(2, 1, 0), [p for n in reversed(padding) for p in (n, n)])
    with torch.no_grad():
        scores = peer(padded[None, None])[0][0, rows_by_our_classes()]
    z, y, x = padding
    expected = scores[:, z : z + 24, y : y + 32, x : x + 40].argmax(0).permute(2, 1, 0).numpy()[::-1, ::-1]
    assert len(np.unique(expected)) > 5
    assert (found == expected).mean() > 0.999


def test_stage_3_starts_from_them(imported: Path) -> None:
    def network(**changes) -> torch.nn.Module:
        parser = ConfigParser()
        parser.read_config(str(BUNDLES / "gynbtnet_brachytherapy/configs/train.json"))
        parser.update({"variant": "tiny", **changes})
        return parser.get_parsed_content("network_def")

    with pytest.raises(CaseError, match="orientation RAS, not LPS and strides") as refused:
        load_pretrained(network(), imported)
    # the remedy is what makes it work, and what the page says
    assert '--orientation RAS --strides "[2,2,2,2,[2,1,1]]"' in PAGE.read_text()
    options = dict(re.findall(r'--(\w+) "([^"]+)"', str(refused.value)))
    assert options == {"orientation": "RAS", "strides": "[2,2,2,2,[2,1,1]]"}
    target = network(orientation=options["orientation"], strides=json.loads(options["strides"]))
    report = load_pretrained(target, imported)
    assert report is not None
    assert {name.split(".")[0] for name in report.kept} == {"head", "extra_heads"}
    weights = torch.load(imported, weights_only=True)
    assert torch.equal(target.state_dict()["decoder.0.conv.weight"], weights["decoder.0.conv.weight"])
