"""A bundle opened once: its own inference.json, applied to one scan after the other."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom_networks.data.datalist import image_stem
from custom_networks.errors import CaseError
from custom_networks.handlers.entropy import EntropyHandler
from custom_networks.settings import read_settings
from scripts.core.files import sha256


def unpacked(bundle: str, work: Path) -> Path:
    """A bundle's folder; a release's zip is unpacked below `work` first.

    Raises:
        CaseError: neither a bundle's folder nor the zip of one.
    """
    path = Path(bundle)
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(work / "bundle")
        roots = [file.parent.parent for file in (work / "bundle").rglob("configs/metadata.json")]
        path = roots[0] if len(roots) == 1 else path
    if not (path / "configs/inference.json").is_file() or not (path / "configs/metadata.json").is_file():
        raise CaseError(f"bundle {bundle}", "it has no configs/inference.json", "give a bundle's folder or its zip")
    return path.resolve()


class OpenBundle:
    """The evaluator of a bundle's `inference.json`, as `python -m monai.bundle run` builds it.

    Args:
        folder: the bundle.
        weights: file of weights, or one a fold for the mean of their softmax; by default the bundle's own model.pt.
        output: folder that takes the predictions.
        device: `cpu`, `cuda`, `cuda:1` …; None leaves the choice to the bundle.
        entropy: note how unsure the network is of each structure.

    Raises:
        CaseError: weights are missing or belong to another network.
    """

    def __init__(
        self,
        folder: Path,
        weights: str | Sequence[str] | None,
        output: Path,
        device: str | None = None,
        entropy: bool = False,
    ) -> None:
        from monai.bundle import ConfigParser

        self.folder, self.output = folder, output
        self.metadata: dict[str, Any] = json.loads((folder / "configs/metadata.json").read_text("utf-8"))
        files = [folder / "configs/inference.json"]
        own = str(folder / "models/model.pt")
        self.weights = [own] if weights is None else [weights] if isinstance(weights, str) else list(weights)
        changes: dict[str, Any] = {
            "bundle_root": str(folder),
            "output_dir": str(output),
            "dataset#data": [{"image": "set before each scan"}],
            "num_workers": 0,
            "handlers": [],
            # every scan is checked on its own before it is handed over
            "check_data": False,
        }
        for file in self.weights:
            if not Path(file).is_file():
                raise CaseError(
                    f"bundle {folder.name}", f"its weights {file} do not exist", "give --weights or --folds"
                )
        if len(self.weights) == 1:
            changes["ckpt_path"] = str(Path(self.weights[0]).resolve())
        else:
            files.append(folder / "configs/ensemble.json")
            changes |= {"folds": len(self.weights), "fold_weights": [str(Path(w).resolve()) for w in self.weights]}
        if device is not None:
            changes["device"] = f"$torch.device({device!r})"
        parser = ConfigParser()
        parser.read_config([str(file) for file in files])
        for name in changes:
            if name.split("#")[0] not in parser.get():
                raise CaseError(
                    f"bundle {folder.name}", f"its inference.json has no {name}", "use a bundle of this project"
                )
        parser.update(changes)
        parser.get_parsed_content("initialize", default=None)
        self.dataset = parser.get_parsed_content("dataset")
        self.evaluator = parser.get_parsed_content("evaluator")
        self.settings = parser.get_parsed_content("used_settings", default={})
        # whether weights in use say that they were trained on synthetic images alone; read now, while a zip is unpacked
        self.synthetic = any(read_settings(path).get("synthetic") for path in self.weights)
        self._entropy: EntropyHandler | None = None
        if entropy:
            self._entropy = EntropyHandler(parser.get_parsed_content("network"))
            self._entropy.attach(self.evaluator)

    @property
    def labels(self) -> dict[int, str]:
        """Label value to name."""
        channels = self.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        return {int(value): str(name) for value, name in channels.items()}

    @property
    def modality(self) -> str:
        """DICOM modality of the input."""
        return str(self.metadata["network_data_format"]["inputs"]["image"]["modality"])

    def digests(self) -> list[str]:
        """sha256 of every file of weights."""
        return [sha256(path) for path in self.weights]

    def entropy(self, image: Path) -> dict[int, tuple[float, float]]:
        """Of a scan that was segmented: label value to mean and number of voxels, see `custom_networks.EntropyHandler`."""
        return self._entropy.found.get(image_stem(image), {}) if self._entropy else {}

    def predict(self, image: Path) -> Path:
        """Segment one scan.

        Args:
            image: NIfTI.

        Returns:
            The label map that the bundle wrote, on the image's grid.

        Raises:
            CaseError: the bundle refused or could not segment it.
        """
        before = set(self.output.iterdir()) if self.output.is_dir() else set()
        self.dataset.data = [{"image": str(image)}]
        try:
            self.evaluator.run()
        except Exception as error:
            # ignite keeps the run that failed, and would end the next one at once as its continuation
            self.evaluator._internal_run_generator = None
            raise _sentence(image.name, error) from error
        written = [path for path in self.output.iterdir() if path not in before]
        if len(written) != 1:
            raise CaseError(image.name, f"the bundle wrote {len(written)} files for it", "use a bundle of this project")
        return written[0]


def _sentence(name: str, error: BaseException) -> CaseError:
    """The refusal at the bottom of what MONAI wrapped around it, or the last error's own words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, CaseError):
            return cause
        last, cause = cause, cause.__cause__ or cause.__context__
    text = " ".join(str(last).split())[:200]
    return CaseError(
        name, f"it could not be segmented ({type(last).__name__}: {text})", "see the bundle's README for its limits"
    )
