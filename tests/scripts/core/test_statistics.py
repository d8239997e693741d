"""One reading of a data set's files: what is counted, what is kept, and when it is not trusted."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom_networks import CaseError
from scripts.core import statistics
from scripts.core.statistics import FILE, KnownStatistics, image_statistics, label_statistics, pooled_intensity

AFFINE = np.array([[0.0, 0, 4, 0], [0.9, 0, 0, 0], [0, -0.8, 0, 0], [0, 0, 0, 1]])


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    generator = np.random.default_rng(0)
    label = np.zeros((10, 12, 14), np.uint8)
    label[2:5, 2:6, 3:8] = 1
    label[3, 3, 4] = 4
    nib.save(nib.Nifti1Image(generator.normal(50, 5, label.shape).astype(np.float32), AFFINE), tmp_path / "i.nii.gz")
    nib.save(nib.Nifti1Image(label, AFFINE), tmp_path / "l.nii.gz")
    return str(tmp_path / "i.nii.gz"), str(tmp_path / "l.nii.gz")


def test_geometry_is_along_left_posterior_superior_whatever_the_storage() -> None:
    image = np.random.default_rng(0).normal(size=(10, 12, 14))
    found = image_statistics(image, AFFINE)
    assert found.shape == (14, 10, 12)
    assert found.spacing == (4.0, 0.9, 0.8)
    assert found.orientation == "AIR"
    assert found.where == "whole image"
    assert found.minimum == image.min()


def test_intensities_are_those_of_the_foreground() -> None:
    image = np.zeros((10, 10, 10))
    image[:5] = 7
    label = np.zeros(image.shape, np.uint8)
    label[:5, :2] = 1
    found = image_statistics(image, AFFINE, label)
    assert (found.where, found.count, found.mean, found.variance) == ("label > 0", 100, 7, 0)
    assert set(found.percentiles) == {7.0}
    assert image_statistics(image, AFFINE, np.zeros_like(label)).where == "whole image"


def test_padding_of_a_ct_counts_as_air() -> None:
    image = np.full((10, 10, 10), 40.0)
    image[:2] = -32768
    plain, padded = image_statistics(image, AFFINE), image_statistics(image, AFFINE, modality="CT")
    assert plain.mean == pytest.approx(0.8 * 40 - 0.2 * 32768)
    assert padded.mean == pytest.approx(0.8 * 40 - 0.2 * 1024)
    assert (padded.minimum, padded.below_air) == (-32768, 0.2)


def test_labels_are_counted_in_millilitres() -> None:
    label = np.zeros((10, 10, 10), np.uint8)
    label[:2] = 3
    found = label_statistics(label, np.diag([2.0, 2, 5, 1]))
    assert found.voxels == {0: 800, 3: 200}
    assert found.ml(3) == pytest.approx(200 * 20 / 1000)
    assert found.ml(9) == 0


def test_pooled_intensity_is_that_of_all_voxels_together() -> None:
    """Cases of different size: every drawn voxel counts once, as if they were in one array."""
    generator = np.random.default_rng(1)
    images = [generator.normal(mean, 10, (20, 20, depth)) for mean, depth in ((0, 20), (100, 5), (30, 10))]
    together = np.concatenate([image.ravel() for image in images])
    found = pooled_intensity([image_statistics(image, AFFINE) for image in images])
    assert found["mean"] == pytest.approx(together.mean())
    assert found["standard_deviation"] == pytest.approx(together.std())
    for name, share in (("percentile_0.5", 0.5), ("median", 50), ("percentile_99.5", 99.5)):
        assert found[name] == pytest.approx(np.percentile(together, share), abs=1.0)
    alone = pooled_intensity([image_statistics(images[1], AFFINE)])
    assert alone["percentile_99.5"] == pytest.approx(np.percentile(images[1], 99.5))


def test_a_file_is_read_once(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = statistics.read
    monkeypatch.setattr(statistics, "read", lambda path, *more: read.append(Path(path).name) or original(path, *more))
    image, label = files
    folder = Path(image).parent
    known = KnownStatistics(folder)
    first = known.label(label, "a"), known.image(image, label, "a")
    assert read == ["l.nii.gz", "i.nii.gz", "l.nii.gz"]
    known.save()
    again = KnownStatistics(folder)
    assert (again.label(label, "a"), again.image(image, label, "a")) == first
    assert len(read) == 3
    # of an image with its label the label is known, too
    (folder / FILE).unlink()
    fresh = KnownStatistics(folder)
    fresh.image(image, label, "a")
    fresh.label(label, "a")
    assert read[3:] == ["i.nii.gz", "l.nii.gz"]


def test_what_has_changed_is_read_again(files: tuple[str, str]) -> None:
    image, label = files
    known = KnownStatistics(Path(image).parent)
    before = known.image(image, label, "a")
    known.save()
    nib.save(nib.Nifti1Image(np.ones((10, 12, 14), np.uint8), AFFINE), label)
    after = KnownStatistics(Path(image).parent)
    assert after.label(label, "a").voxels == {1: 1680}
    assert after.image(image, label, "a").count == 1680 != before.count
    # the same image of another modality is another question
    assert after.image(image, label, "a", "CT").count == 1680


def test_a_moved_data_set_keeps_what_is_known(files: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    image, label = files
    folder = Path(image).parent
    known = KnownStatistics(folder)
    found = known.image(image, label, "a")
    known.save()
    folder.rename(folder.with_name("moved"))
    monkeypatch.setattr(statistics, "read", None)
    there = folder.with_name("moved")
    assert KnownStatistics(there).image(str(there / "i.nii.gz"), str(there / "l.nii.gz"), "a") == found


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({"version": 0, "files": {}})])
def test_a_damaged_or_older_store_is_ignored(files: tuple[str, str], content: str) -> None:
    folder = Path(files[0]).parent
    (folder / FILE).write_text(content)
    assert KnownStatistics(folder).label(files[1], "a").voxels[4] == 1


def test_a_bad_file_is_refused_and_nothing_is_kept_of_it(files: tuple[str, str]) -> None:
    known = KnownStatistics(Path(files[0]).parent)
    Path(files[1]).write_bytes(b"x" * 400)
    for _ in range(2):
        with pytest.raises(CaseError, match=r"a: label .*l\.nii\.gz"):
            known.image(*files, "a")
