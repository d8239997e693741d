"""Every bundle becomes a release that passes its own check."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.sharing.package.package import package
from tests.bundles.test_settings import BUNDLES, SETTINGS, made


@pytest.mark.slow
@pytest.mark.parametrize("bundle", SETTINGS)
def test_a_release_of_every_bundle(bundle: str, tmp_path: Path) -> None:
    weights = made(bundle, tmp_path / "model.pt")
    package(str(BUNDLES / bundle), str(weights), str(tmp_path), version="9.0.0", changes="untrained")
    assert package(check=str(tmp_path / f"{bundle}_v9.0.0.zip")) == 0
