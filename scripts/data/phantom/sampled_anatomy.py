"""One woman's pelvis as numbers: what differs between patients, and between one patient's time points.

Canonical space is in mm: x to the patient's right, y anterior, z superior (RAS+), origin between the femoral heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scripts.data.phantom.interpolation import smooth_path
from scripts.data.phantom.shapes import Warp, rotation

Points = NDArray[np.float64]
TUMOR_MM = (5.0, 60.0)
# the tumour's surface may lie this share inside or outside its ellipsoid
ROUGHNESS = 0.12


@dataclass(frozen=True)
class Tumor:
    """A tumour: a rough ellipsoid in unwarped canonical space.

    Args:
        centre: mm.
        semi: half axes in mm; roughness included, the longest diameter stays within `TUMOR_MM`.
        axes: 3x3, columns are the directions of `semi`.
        waves: (N, 3) frequencies of the surface's roughness over the unit sphere.
        phases: (N,) radians.
        site: `cervix`, `uterus` or `vagina`: where it reaches to.
    """

    centre: Points
    semi: Points
    axes: Points
    waves: Points
    phases: Points
    site: str


@dataclass(frozen=True)
class Anatomy:
    """Everything that shapes one patient at one time point; lengths in canonical mm.

    `uterus` and the other paths are (N, 4): x, y, z and radius. The uterus' path runs from the external os (0) by the
    internal os (1/3 of its length) to the fundus (1).
    """

    scale: float
    warp: Warp
    trunk: tuple[float, float]
    fat: tuple[float, float, float]
    uterus: Points
    cavity: float
    vagina: Points
    tumor: Tumor
    bladder: tuple[Points, Points]
    bladder_wall: float
    rectum: Points
    sigmoid: Points
    bowel: tuple[Points, ...]
    ovaries: Points
    fibroids: Points
    vessels: tuple[Points, ...]
    retroverted: bool


def _path(points: Points, between: int = 4) -> Points:
    return smooth_path(points, between)


def _uterus(patient: np.random.Generator, fill: float, retroverted: bool, senile: bool) -> Points:
    """Path and radius; a full bladder pushes an anteverted fundus up and back."""
    os_ = np.array([patient.normal(0, 4), -16 + patient.normal(0, 3), -3 + patient.normal(0, 4)])
    length = patient.uniform(28, 36)
    if retroverted:
        first, last = patient.uniform(-20, 5), patient.uniform(-45, -25)
        body = patient.uniform(30, 38)
    else:
        first, last = patient.uniform(12, 30), patient.uniform(70, 100) - 45 * fill
        body = patient.uniform(36, 50)
    if senile:
        body *= 0.8
    sideways = patient.normal(0, 0.12)

    def step(angle: float) -> Points:
        return np.array([sideways, np.sin(np.radians(angle)), np.cos(np.radians(angle))])

    inner = os_ + length * step(first)
    middle = inner + 0.45 * body * step((first + last) / 2)
    fundus = middle + 0.55 * body * step(last)
    radius = patient.uniform(12, 15) if senile else patient.uniform(18, 23)
    radii = [patient.uniform(11.5, 14), patient.uniform(10.5, 12.5), radius, 0.88 * radius]
    return _path(np.column_stack([[os_, inner, middle, fundus], radii]), 5)


def _tumor(
    patient: np.random.Generator, uterus: Points, diameter: float, share: float, scale: float, warp: Warp
) -> Tumor:
    """Place a tumour of `diameter` mm at the first time point, shrunk to `share` of it."""
    at = patient.uniform(0.05, 0.24)
    site = str(patient.choice(["cervix", "uterus", "vagina"], p=[0.55, 0.27, 0.18]))
    if diameter < 25:
        site = "cervix"
    at += {"cervix": 0.0, "uterus": 0.10, "vagina": -0.1}[site]
    index = np.clip(at, 0, 1) * (len(uterus) - 1)
    low = int(min(np.floor(index), len(uterus) - 2))
    place = uterus[low] + (index - low) * (uterus[low + 1] - uterus[low])
    axis = uterus[low + 1, :3] - uterus[low, :3]
    axis /= np.linalg.norm(axis)
    if site == "vagina":
        place = place - np.append(axis * 0.2 * diameter, 0)
    side = np.cross(axis, [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    axes = np.column_stack([np.cross(side, axis), side, axis]) @ rotation(*patient.normal(0, 12, 3))
    shape = np.array([patient.uniform(0.8, 1.0), patient.uniform(0.68, 0.9), patient.uniform(0.8, 1.0)])
    if site != "cervix":
        shape[2] *= 1.25
    shape /= shape.max()
    # small tumours sit in one lip, large ones fill the cervix
    angle = patient.uniform(0, 2 * np.pi)
    off = max(0.0, place[3] - 0.35 * diameter) * 0.75
    now = max(diameter * share, TUMOR_MM[0] * 1.35)
    centre = place[:3] + off * (np.cos(angle) * axes[:, 0] + np.sin(angle) * axes[:, 1])
    return Tumor(
        centre=warp.undo(centre),
        semi=shape * now / 2 / (1 + ROUGHNESS) / scale,
        axes=axes,
        waves=patient.normal(0, 2.6, (5, 3)),
        phases=patient.uniform(0, 2 * np.pi, 5),
        site=site,
    )


def _bladder(visit: np.random.Generator, fill: float) -> tuple[Points, Points]:
    semi = np.array([30 + 19 * fill, 22 + 13 * fill, 17 + 23 * fill]) * visit.uniform(0.93, 1.07, 3)
    centre = np.array([visit.normal(0, 3), 28 + 3 * fill, -24 + semi[2] * 0.97])
    return centre, semi


def _bowel(patient: np.random.Generator, front: float) -> tuple[Points, ...]:
    loops = []
    for _ in range(patient.integers(12, 17)):
        start = np.array([patient.uniform(-62, 62), patient.uniform(-20, front), patient.uniform(36, 110)])
        turn = patient.normal(0, 1, 3)
        steps = []
        for _ in range(5):
            turn = 0.6 * turn + patient.normal(0, 0.8, 3)
            steps.append(start)
            start = start + 17 * turn / np.linalg.norm(turn)
            start = np.clip(start, [-64, -30, 34], [64, front, 150])
        radii = patient.uniform(8, 12) * patient.uniform(0.85, 1.15, len(steps))
        loops.append(_path(np.column_stack([steps, radii]), 2))
    return tuple(loops)


def _vessels(patient: np.random.Generator) -> tuple[Points, ...]:
    """External iliac artery and vein, and internal iliac vessels, on both sides."""
    out = []
    for side in (-1.0, 1.0):
        jitter = patient.normal(0, 2, (6, 3))
        main = np.array([[26, -12, 135], [36, -6, 100], [52, 14, 62], [62, 40, 25], [68, 60, -8], [70, 66, -45]])
        deep = np.array([[36, -10, 98], [46, -30, 72], [54, -42, 45], [57, -30, 20], [54, -12, 5]])
        for path, radius, shift in (
            (main, 4.4, (0, 5, 2)),
            (main, 6.0, (2, -6, -2)),
            (deep, 3.2, (0, 0, 0)),
            (deep, 3.6, (5, -5, 2)),
        ):
            moved = (path + np.array(shift) + jitter[: len(path)]) * np.array([side, 1, 1])
            out.append(_path(np.column_stack([moved, np.full(len(path), radius * patient.uniform(0.9, 1.15))])))
    return tuple(out)


def _colon(patient: np.random.Generator, visit: np.random.Generator) -> tuple[Points, Points]:
    """Rectum from the anal verge, and the sigmoid that continues it."""
    full = visit.uniform(0.75, 1.35)
    bend = patient.normal(0, 4, 3)
    rectum = np.array(
        [
            [0, -46, -84, 7.0],
            [0, -38, -64, 8.0],
            [0, -40, -46, 9.5],
            [bend[0], -55, -26, 12 * full],
            [bend[1], -67, -4, 14 * full],
            [bend[2], -72, 20, 13 * full],
            [bend[2] - 6, -70, 42, 11.5 * full],
        ]
    )
    side = patient.choice([-1.0, 1.0], p=[0.75, 0.25])
    sway = np.column_stack([patient.normal(0, 5, (7, 3)), np.zeros(7)])
    wide = visit.uniform(0.85, 1.2)
    sigmoid = np.array(
        [
            rectum[-1],
            [side * 16, -58, 60, 11 * wide],
            [side * 34, -34, 66, 12 * wide],
            [side * 18, -12, 78, 12 * wide],
            [-side * 16, -8, 84, 11 * wide],
            [-side * 34, 8, 92, 12 * wide],
            [-62, 16, 108, 11 * wide],
            [-82, 4, 140, 11 * wide],
        ]
    )
    sigmoid[1:] += sway
    return _path(rectum), _path(sigmoid)


def sample_anatomy(
    seed: int, patient: int, visit: int = 0, tumor_mm: tuple[float, float] = TUMOR_MM, fill: float | None = None
) -> Anatomy:
    """Draw one patient at one time point.

    The same `seed` and `patient` give the same woman at every `visit`; nothing depends on other patients.

    Args:
        seed: of the cohort.
        patient: number of the patient.
        visit: time point, from 0; the tumour shrinks, bladder and rectum fill anew.
        tumor_mm: range of the longest diameter at the first time point, within 5 to 60 mm.
        fill: of the bladder, 0 empty to 1 full; None draws it.
    """
    woman = np.random.default_rng([seed, patient, 11])
    today = np.random.default_rng([seed, patient, 12, visit])
    fill = float(today.beta(1.6, 1.8)) if fill is None else fill
    today.random()
    scale = float(np.clip(woman.normal(1.0, 0.045), 0.9, 1.1))
    warp = Warp.sample(woman, 2.6)
    retroverted, senile = bool(woman.random() < 0.2), bool(woman.random() < 0.3)
    trunk = (float(woman.uniform(166, 196)), float(woman.uniform(114, 130)))
    fat = (float(woman.uniform(18, 36)), float(woman.uniform(14, 30)), float(woman.uniform(22, 36)))
    low, high = max(tumor_mm[0], TUMOR_MM[0] * 1.4), min(tumor_mm[1], TUMOR_MM[1])
    diameter = float(low + (high - low) * woman.beta(2.2, 1.7))
    share = float(np.prod([today.uniform(0.5, 0.8) for _ in range(visit)])) if visit else 1.0

    uterus = _uterus(np.random.default_rng([seed, patient, 13]), fill, retroverted, senile)
    axis = uterus[1, :3] - uterus[0, :3]
    top = uterus[0, :3] + axis / np.linalg.norm(axis) * 4
    vagina = np.array(
        [[0, 4, -70, 4.5], [0, -4, -50, 4.5], [top[0] / 2, top[1] - 1, -26, 5.0], [*top, 6.5]], dtype=np.float64
    )
    rectum, sigmoid = _colon(woman, today)
    ovaries = np.array([[s * woman.uniform(34, 46), woman.uniform(-20, 8), woman.uniform(28, 44)] for s in (-1, 1)])
    number = int(woman.choice([0, 0, 0, 1, 2]))
    places = woman.integers(len(uterus) // 2, len(uterus), number)
    fibroids = np.array(
        [[*(uterus[p, :3] + woman.normal(0, 0.45, 3) * uterus[p, 3]), woman.uniform(4, 9)] for p in places]
    ).reshape(number, 4)
    tumor_rng = np.random.default_rng([seed, patient, 14])
    return Anatomy(
        scale=scale,
        warp=warp,
        trunk=trunk,
        fat=fat,
        uterus=uterus,
        cavity=float(woman.uniform(1.2, 2.0) if senile else woman.uniform(2.5, 5.0)),
        vagina=_path(vagina),
        tumor=_tumor(tumor_rng, uterus, diameter, share, scale, warp),
        bladder=_bladder(today, fill),
        bladder_wall=float(1.8 + 2.2 * (1 - fill)),
        rectum=rectum,
        sigmoid=sigmoid,
        bowel=_bowel(woman, trunk[1] - fat[0] - 29),
        ovaries=ovaries,
        fibroids=fibroids,
        vessels=_vessels(woman),
        retroverted=retroverted,
    )
