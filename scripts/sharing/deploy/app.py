"""MONAI Deploy application: a DICOM series in, RTSTRUCT and SEG on it out, through a release's own inference.json.

    python -m scripts.sharing.deploy.app -i DICOM -o OUTPUT -m RELEASE/models/model.ts

The series is read by the reader of `segment`, not by the SDK's: that one swaps the spacing of rows and columns of a
sagittal series. What is written is for research only and approved by nobody. It needs monai-deploy-app-sdk.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from monai.deploy.conditions import CountCondition
from monai.deploy.core import Application, Image, IOType, Operator, OperatorSpec
from monai.deploy.operators.monai_bundle_inference_operator import (
    IOMapping,
    MonaiBundleInferenceOperator,
    get_bundle_config,
)

from custom_networks.errors import CaseError
from scripts.sharing.contours.contours import DESCRIPTION, SYNTHETIC, write_contours
from scripts.sharing.contours.place import on_series
from scripts.sharing.segment.scans import ReadScan, find_scans, read_scan

# names the series where a study holds several that the bundle takes; a container knows no further options
SERIES = "SERIES_DESCRIPTION"


class ReadSeries(Operator):
    """Reads the one series that the bundle takes and refuses what it should not touch, as `segment` does.

    Args:
        folder: DICOM files of any depth.
        about: metadata of the bundle.
        wanted: regular expression that the series' description must contain.
    """

    def __init__(
        self, fragment: Application, *args: Any, folder: Path, about: dict[str, Any], wanted: str, **kwargs: Any
    ) -> None:
        self.folder, self.about, self.wanted = folder, about, wanted
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.output("image")
        spec.output("scan")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        modality = str(self.about["network_data_format"]["inputs"]["image"]["modality"])
        scans = [scan for scan in find_scans(str(self.folder), modality, self.wanted)[0] if scan.series]
        if len(scans) != 1:
            remedy = f"give the folder of one series, or set {SERIES}"
            raise CaseError("input", f"it holds {len(scans)} {modality} series", remedy)
        with tempfile.TemporaryDirectory(prefix="deploy_") as work:
            scan = read_scan(scans[0], Path(work), modality, self.about.get("least_field_of_view_mm"))
        # the keys that MONAI's own readers leave
        meta = {
            "affine": scan.affine,
            "original_affine": scan.affine.copy(),
            "spacing": np.linalg.norm(scan.affine[:3, :3], axis=0),
            "spatial_shape": np.asarray(scan.array.shape),
            "original_channel_dim": "no_channel",
            "space": "RAS",
        }
        op_output.emit(Image(scan.array, meta), "image")
        op_output.emit(scan, "scan")


class WriteContours(Operator):
    """Writes rtstruct.dcm, and seg.dcm where anything was found.

    Args:
        folder: for the files.
        classes: label value to name.
        told: SeriesDescription.
    """

    def __init__(
        self, fragment: Application, *args: Any, folder: Path, classes: dict[int, str], told: str, **kwargs: Any
    ) -> None:
        self.folder, self.classes, self.told = folder, classes, told
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        spec.input("pred")
        spec.input("scan")

    def compute(self, op_input: Any, op_output: Any, context: Any) -> None:
        scan: ReadScan = op_input.receive("scan")
        # the inference operator gives slices, rows, columns
        label = op_input.receive("pred").asnumpy().T
        assert scan.source is not None
        placed = on_series("input", label, scan.affine, scan.source)
        for written in write_contours(self.folder, placed, scan.source, self.classes, description=self.told):
            logging.info("written: %s", written.name)


class SegmentSeries(Application):
    """Reader, the bundle's inference, writer."""

    def compose(self) -> None:
        """Put the operators together.

        Raises:
            CaseError: the model is none of a release.
        """
        context = Application.init_app_context(self.argv)
        model = Path(context.model_path)
        if model.suffix != ".ts" or not model.is_file():
            raise CaseError(f"model {model}", "it is no model.ts", "pass -m RELEASE/models/model.ts")
        metadata = get_bundle_config(str(model), ["inference"])["_meta_"]
        classes = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        reader = ReadSeries(
            self,
            CountCondition(self, 1),
            name="read",
            folder=Path(context.input_path),
            about=metadata,
            wanted=os.environ.get(SERIES, ""),
        )
        inference = MonaiBundleInferenceOperator(
            self,
            name="infer",
            app_context=context,
            bundle_path=model,
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
        )
        names = {int(value): str(name) for value, name in classes.items()}
        told = SYNTHETIC if metadata.get("synthetic") else DESCRIPTION
        writer = WriteContours(self, name="write", folder=Path(context.output_path), classes=names, told=told)
        self.add_flow(reader, inference, {("image", "image")})
        self.add_flow(inference, writer, {("pred", "pred")})
        self.add_flow(reader, writer, {("scan", "scan")})


def main() -> int:
    """Run it; a refusal is one sentence and exit status 2."""
    try:
        SegmentSeries().run()
    except CaseError as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
