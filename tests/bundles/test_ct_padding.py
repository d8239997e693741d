"""What a CT holds outside its field of view must not move the intensities of what lies inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

BUNDLES = Path(__file__).parents[2] / "bundles"
PADDED = [-32768, -3024, -2000, -1025]


@pytest.mark.parametrize("bundle", ["gynbtnet_pretrain", "gynbtnet_finetune", "gynbtnet_brachytherapy"])
@pytest.mark.parametrize("config", ["train.json", "inference.json"])
def test_padding_of_a_ct_becomes_air_before_any_statistic(tmp_path: Path, bundle: str, config: str) -> None:
    image = np.random.default_rng(0).normal(40, 20, (16, 16, 16))
    outside = np.hypot(*(np.mgrid[:16, :16] - 7.5)) > 7
    parser = ConfigParser(ConfigParser.load_config_file(str(BUNDLES / bundle / "configs" / config)))
    # the list alone: no network and no cases are needed for it
    key = "deterministic_transforms" if config == "train.json" else "preprocessing"
    transforms: Any = parser.get_parsed_content(key)
    transforms = getattr(transforms, "transforms", transforms)
    results = []
    for value in (-1024, *PADDED):
        image[outside] = value
        case = {}
        for name, array in (("image", image.astype(np.int16)), ("label", np.zeros(image.shape, np.uint8))):
            nib.save(nib.Nifti1Image(array, np.diag([-1.5, -1.5, 1.5, 1])), tmp_path / f"{name}.nii")
            case[name] = str(tmp_path / f"{name}.nii")
        data: Any = case
        for transform in transforms:
            data = transform(data)
        results.append(data["image"].as_tensor())
    # 20 HU of noise among tissue and air: what -32768 would shrink a hundredfold
    middle = [n // 2 for n in results[0].shape]
    assert float(results[0][:, middle[1], middle[2]].std()) > 0.02
    for result in results[1:]:
        assert torch.equal(result, results[0])
