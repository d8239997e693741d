"""`import_nifti`: volumes that lie in a folder as NIfTI, NRRD or MetaImage, and their label maps, to a datalist."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from custom_networks.data.checks import check_grid, check_image, check_values
from custom_networks.data.datalist import Case, Datalist, Patients, safe_name
from custom_networks.errors import CaseError
from scripts.core.datalist import add_cases, existing, write_datalist
from scripts.core.files import write_nifti
from scripts.core.jobs import parallel
from scripts.core.reading import one_sentence, read
from scripts.data.cohorts.nifti_sets import geometry, place_file
from scripts.data.dicom.import_dicom import whole
from scripts.data.dicom.outcome import IMPORTED, LEFT_OUT, ImportOutcome, refused, summary, write_report
from scripts.data.dicom.patterns import checked_pattern

NIFTI = (".nii.gz", ".nii")
# read by SimpleITK and written as NIfTI
CONVERTED = (".nrrd", ".nhdr", ".mha", ".mhd")


@dataclass(frozen=True)
class Volume:
    """An image of the folder and what is to become of it.

    Args:
        case: its name.
        patient: whose it is.
        image: its file.
        label: the file of its label map, or None.
        labels: values that the label map may hold.
        output: folder of the data set.
        copy: copy NIfTI files instead of linking to them.
    """

    case: str
    patient: str
    image: Path
    label: Path | None
    labels: tuple[int, ...]
    output: Path
    copy: bool


def import_nifti(
    source_dir: str,
    output_dir: str,
    images: str = "",
    label_maps: str = "",
    labels: str = "",
    patient: str = "",
    patients: Patients = "named",
    modality: Literal["MR", "CT"] = "MR",
    held_out: bool = False,
    allow_missing: bool = False,
    copy: bool = False,
    name: str = "",
    workers: int = 2,
) -> int:
    """Turn a folder of NIfTI, NRRD or MetaImage files into a datalist, or add them to the one that is there.

    An image and its label map belong together where `*` stands for the same text in both patterns. What `*` stands for
    is the case's name. Every file is read; what cannot be used is refused with its reason, and the rest goes on.

    Example:
        python -m scripts import_nifti hospital data --images "*/t2.nii.gz" --label_maps "*/contours.nrrd" \
            --labels "{organ: 1, tumor: 2}" --patient "(P[0-9]+)_"

    Args:
        source_dir: the folder.
        output_dir: folder of the data set: `images/`, `labels/`, `datalist.json`, `import_report.csv`.
        images: pattern of the images' paths below the folder, with `*`, `?` and `**/`; default every volume in it.
        label_maps: pattern of the label maps' paths, with as many wildcards; default none, for unlabelled images.
        labels: what the values of the label maps mean, `{organ: 1, tumor: 2}`.
        patient: regular expression that finds the patient in an image's path below the folder: its group `patient`, else
            its first group, else all that it matches.
        patients: `named` refuses an image without a patient; `each` says that such an image is a patient of its own.
        modality: `MR` or `CT`.
        held_out: put new patients into `testing` instead of `training`.
        allow_missing: import images without a label map, too.
        copy: copy NIfTI files; otherwise `images/` and `labels/` have links to where they lie.
        name: name of the data set; default the output folder's.
        workers: processes.

    Returns:
        0, or 1 if no case could be imported.

    Raises:
        CaseError: an option is wrong, the folder holds no such files, or the datalist that is there is of another kind.
    """
    source, output = Path(str(source_dir)), Path(str(output_dir))
    if not source.is_dir():
        raise CaseError("import_nifti", f"{source} is not a folder", "pass the folder of the images")
    if patients not in ("named", "each") or str(modality).upper() not in {"MR", "CT"}:
        raise CaseError(
            "import_nifti",
            f"there is no --patients {patients} with --modality {modality}",
            "choose named or each, MR or CT",
        )
    if not patient and patients == "named":
        raise CaseError(
            "import_nifti",
            "nothing says which images are of one patient",
            "pass --patient a regular expression for it, or --patients each if every image is of another one",
        )
    named = label_names(labels)
    if bool(label_maps) != bool(named):
        raise CaseError(
            "import_nifti",
            "--label_maps and --labels belong together",
            'write for example --labels "{organ: 1, tumor: 2}"',
        )
    finder, target = re.compile(checked_pattern("--patient", patient)), output / "datalist.json"
    existing(target, named, str(modality).upper())
    found, outcomes = find(source, str(images), str(label_maps))
    cases_of, volumes = Counter(one.case for one in found), []
    for one in found:
        of = patient_of(one.path, finder if patient else None) or (one.case if patients == "each" else "")
        refusal = _refusal(one, of, cases_of, bool(label_maps) and not allow_missing)
        if refusal is not None:
            outcomes.append(refusal)
        else:
            volumes.append(Volume(one.case, of, one.file, one.label, tuple(named), output, bool(copy)))
    outcomes += parallel(import_volume, volumes, whole("--workers", workers), "cases")
    outcomes.sort(key=lambda one: (not one.case, one.case))
    report = write_report(output / "import_report.csv", outcomes)
    cases = [Case.of(one.entry, output) for one in outcomes if one.outcome == IMPORTED]
    if cases:
        new = Datalist(
            name=str(name) or output.resolve().name,
            modality=str(modality).upper(),
            labels=named,
            training=[] if held_out else cases,
            testing=cases if held_out else [],
        )
        write_datalist(target, add_cases(target, new))
    print(summary(outcomes, report))
    return 0 if cases else 1


def label_names(labels: str) -> dict[int, str]:
    """Label value to name, background included, from the text `{organ: 1, tumor: 2}`; empty for none.

    Raises:
        CaseError: it is not such a mapping, or a value or a name stands twice.
    """
    text = str(labels).strip().removeprefix("{").removesuffix("}").strip(" ,")
    if not text:
        return {}
    found: dict[int, str] = {}
    for pair in text.split(","):
        match = re.fullmatch(r"""\s*['"]?([A-Za-z][\w .+-]*?)['"]?\s*:\s*([0-9]{1,9})\s*""", pair)
        name, value = (match[1], int(match[2])) if match else ("", 0)
        problem = ""
        if match is None:
            problem = f"{pair.strip()!r} is not a name with a whole number"
        elif value in found or name.lower() in {other.lower() for other in found.values()}:
            problem = f"{pair.strip()!r} stands twice"
        if problem:
            raise CaseError("--labels", problem, 'write for example --labels "{organ: 1, tumor: 2}"')
        found[value] = name
    return dict(sorted({0: "background", **found}.items()))


def wildcards(pattern: str) -> re.Pattern[str]:
    """A pattern of paths as a regular expression with a group for each of `**/`, `*` and `?`.

    Args:
        pattern: of the whole path below the folder, with forward slashes; `*` and `?` stay within a folder's name.
    """
    parts = {"**/": "((?:.*/)?)", "*": "([^/]*)", "?": "([^/])"}
    text = "".join(parts.get(part) or re.escape(part) for part in re.split(r"(\*\*/|\*|\?)", pattern))
    return re.compile(text)


def _suffix(path: Path) -> str:
    return next((s for s in (*NIFTI, *CONVERTED) if path.name.lower().endswith(s)), "")


def _key(match: re.Match[str]) -> tuple[str, ...]:
    """What the wildcards stand for, without the format: an image may be NIfTI and its label map NRRD."""
    *first, last = match.groups() or ("",)
    suffix = _suffix(Path(match[0]))
    return (*first, "" if last == suffix[1:] else last.removesuffix(suffix))


@dataclass(frozen=True)
class Found:
    """An image by its pattern: its path below the folder, its name, and the file of its label map, or None."""

    path: str
    case: str
    file: Path
    label: Path | None


def find(source: Path, images: str, label_maps: str) -> tuple[list[Found], list[ImportOutcome]]:
    """Pair images with label maps by their patterns.

    Args:
        source: the folder.
        images: pattern; empty takes every volume.
        label_maps: pattern; empty for none.

    Returns:
        The images, and what of the folder is left out.

    Raises:
        CaseError: the patterns do not belong together, or find nothing.
    """
    paths = {
        file.relative_to(source).as_posix(): file
        for file in sorted(source.rglob("*"))
        if file.is_file() and not file.name.startswith(".")
    }
    image_of, label_of = wildcards(images or "**/*"), wildcards(label_maps)
    if label_maps and (not images or image_of.groups != label_of.groups):
        raise CaseError(
            "import_nifti",
            f"--images {images or '(none)'} and --label_maps {label_maps} have not the same number of wildcards",
            'write patterns in which they stand for the case, such as "images/*.nii.gz" and "labels/*.nii.gz"',
        )
    masks = {_key(m): path for path in paths if label_maps and (m := label_of.fullmatch(path))}
    of_masks, other, found = set(masks.values()), Counter[str](), []
    for path, file in paths.items():
        match = image_of.fullmatch(path)
        if path in of_masks or match is None:
            continue
        if not images and not _suffix(file):
            other[file.suffix or file.name] += 1
            continue
        named = _key(match) if images and match.groups() else (path.removesuffix(_suffix(file)),)
        case = "_".join(part.strip("/").replace("/", "_") for part in named if part.strip("/"))
        mask = masks.pop(_key(match), None)
        found.append(Found(path, case, file, paths[mask] if mask else None))
    if not found:
        raise CaseError("import_nifti", f"{source} holds no {images or 'volume'}", "correct --images or --source_dir")
    left = []
    if masks:
        left.append(f"{len(masks)} label maps without an image, such as {min(masks.values())}")
    if other:
        kinds = ", ".join(f"{count} {kind}" for kind, count in other.most_common(4))
        left.append(f"files that are neither NIfTI nor NRRD nor MetaImage: {kinds}")
    return found, [ImportOutcome("", "", LEFT_OUT, text) for text in left]


def _refusal(one: Found, patient: str, cases: Counter[str], needs_label: bool) -> ImportOutcome | None:
    """Why an image cannot be used, as far as its name tells."""
    odd = next((file for file in (one.file, one.label) if file is not None and not _suffix(file)), None)
    if odd is not None:
        problem, remedy = (
            f"{odd} is neither NIfTI nor NRRD nor MetaImage",
            "convert it; for DICOM there is import_dicom",
        )
    elif not patient:
        problem, remedy = f"--patient finds nothing in {one.path}", "correct it, or pass --patients each"
    elif needs_label and one.label is None:
        problem, remedy = f"no label map belongs to {one.path}", "add it, or pass --allow_missing"
    elif cases[one.case] > 1:
        problem = f"{one.path} is not the only image called {one.case}"
        remedy = "write --images so that wildcards tell them apart"
    else:
        return None
    return refused(one.case, patient, problem, remedy)


def patient_of(path: str, finder: re.Pattern[str] | None) -> str:
    """The patient in a path: the group `patient`, else the first group, else all that is found; empty for nothing."""
    match = finder.search(path) if finder is not None else None
    if match is None:
        return ""
    return str(
        (match["patient"] if "patient" in match.re.groupindex else match[1] if match.re.groups else match[0]) or ""
    )


def import_volume(volume: Volume) -> ImportOutcome:
    """Read an image and its label map, check them, and place them in the data set."""
    stem = safe_name(volume.case)
    entry = {"case": volume.case, "patient": volume.patient}
    try:
        with one_sentence(volume.case, f"image {volume.image}"):
            image = _read(volume.image, volume.case)
            check_image(volume.case, str(volume.image), image[0])
            label = None if volume.label is None else _read(volume.label, volume.case, "label")
            if label is not None:
                check_grid(volume.case, f"label {volume.label}", label, image)
                check_values(volume.case, f"label {volume.label}", label[0], volume.labels)
            # nothing is written of a case that cannot be used
            entry["image"] = _place("images", stem, volume.image, image, volume)
            if volume.label is not None and label is not None:
                entry["label"] = _place("labels", stem, volume.label, label, volume)
    except CaseError as error:
        return refused(volume.case, volume.patient, error.problem, error.remedy)
    return geometry(ImportOutcome(volume.case, volume.patient, entry={**entry}), image[0].shape, image[1])


def _read(file: Path, case: str, what: str = "image") -> tuple[np.ndarray, np.ndarray]:
    return read(str(file), case, what) if _suffix(file) in NIFTI else read_with_itk(file, case, what)


def _place(folder: str, stem: str, file: Path, voxels: tuple[np.ndarray, np.ndarray], volume: Volume) -> str:
    """Link or copy a NIfTI file, write any other as NIfTI; returns its path in the datalist."""
    if _suffix(file) in NIFTI:
        return place_file(folder, stem, file, volume.output, volume.copy)
    write_nifti(volume.output / folder / f"{stem}.nii.gz", *voxels)
    return f"{folder}/{stem}.nii.gz"


def read_with_itk(file: str | Path, case: str, what: str = "image") -> tuple[np.ndarray, np.ndarray]:
    """Read NRRD or MetaImage.

    Args:
        file: the file.
        case: the case's name, for messages.
        what: `image` or `label`, for messages.

    Returns:
        Voxels (X, Y, Z) and the 4x4 affine in RAS+ mm, as nibabel has it; ITK's world is LPS+.

    Raises:
        CaseError: it cannot be read, or is not one 3-D volume with one number per voxel.
    """
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), "unknown")
        raise CaseError(case, f"{what} {file} cannot be read ({reason.strip()})", "export or copy it again") from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        shape = " x ".join(map(str, image.GetSize()))
        raise CaseError(
            case,
            f"{what} {file} is {shape} with {image.GetNumberOfComponentsPerPixel()} numbers per voxel, not one volume",
            "store one 3-D volume per file",
        )
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    array = sitk.GetArrayFromImage(image).T
    if what != "image" and array.dtype.kind == "f":
        if not np.equal(array, np.round(array)).all():
            raise CaseError(
                case, f"{what} {file} holds values that are not whole numbers", "store one whole number per class"
            )
        array = array.astype(np.int32)
    return array, np.diag([-1.0, -1, 1, 1]) @ affine
