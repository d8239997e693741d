"""Planning CT of the phantom for brachytherapy: the same pelvis in HU, with an applicator in place."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scripts.data.phantom.applicator import insert, paint_applicator, streaks
from scripts.data.phantom.body import paint_body
from scripts.data.phantom.canvas import Canvas, PhantomCase, Protocol, directions, organ_extent, pose
from scripts.data.phantom.dose import implant
from scripts.data.phantom.interpolation import interpolation_matrix, stretch
from scripts.data.phantom.sampled_anatomy import TUMOR_MM, Anatomy, sample_anatomy
from scripts.data.phantom.shapes import FAR, Array, Box, Grid, coverage, ellipsoid
from scripts.data.phantom.viscera import Viscera, paint_viscera

# HU, spread between patients, texture within
HU = {
    "skin": (10, 10, 8),
    "fat": (-100, 6, 7),
    "muscle": (55, 5, 9),
    "cortex": (850, 120, 60),
    "marrow": (150, 35, 35),
    "disc": (85, 12, 8),
    "csf": (15, 5, 3),
    "cartilage": (95, 10, 5),
    "artery": (50, 8, 4),
    "vein": (48, 8, 4),
    "vessel wall": (50, 5, 3),
    "bowel wall": (45, 6, 5),
    "bowel fluid": (25, 15, 10),
    "chyme": (45, 20, 18),
    "stool": (20, 25, 60),
    "gas": (-930, 20, 10),
    "bladder wall": (38, 5, 4),
    "urine": (8, 4, 2),
    "mucosa": (45, 5, 4),
    "ovary": (38, 6, 6),
    "follicle": (15, 4, 3),
    "parametrium": (-35, 10, 28),
    "venous plexus": (45, 8, 8),
    "vagina wall": (48, 5, 5),
    "myometrium": (78, 12, 8),
    "outer stroma": (62, 6, 6),
    "stroma": (62, 6, 6),
    "junctional zone": (70, 8, 6),
    "endometrium": (48, 8, 5),
    "endocervix": (55, 6, 5),
    "canal": (35, 8, 4),
    "fibroid": (72, 12, 10),
    "tumor": (58, 8, 9),
    "necrosis": (30, 8, 6),
    "packing": (25, 30, 70),
    "ovoid": (320, 60, 10),
    "metal": (4000, 0, 0),
    "balloon": (10, 5, 2),
}
LABELS = {"0": "background", "1": "HR-CTV", "2": "bladder", "3": "rectum", "4": "uterus", "5": "sigmoid"}
# brachytherapy follows external beam: the tumour has shrunk as at an MR's third time point
VISITS_BEFORE = 2
FIELD_MM = 220.0


def ct_grid(
    rng: np.random.Generator, anatomy: Anatomy, to_scanner: NDArray[np.float64], protocol: Protocol
) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Shape and affine (index to scanner mm, LPS) of an axial CT that shows the organ with a margin.

    In plane 0.31 to 1.17 mm with 512 samples (more where that would show less than 220 mm), slices of 1 mm.
    """
    axes = directions("LPS", np.eye(3))
    low, high = organ_extent(anatomy, to_scanner, axes)
    cover = high[2] - low[2] + rng.uniform(16, 40)
    drawn = float(rng.uniform(0.31, 1.17))
    if protocol.matrix:
        spacing = protocol.spacing or max(FIELD_MM, drawn * 512) / protocol.matrix
        matrix = protocol.matrix
    else:
        spacing = protocol.spacing or drawn
        matrix = max(512 if protocol.spacing is None else 0, 32 * math.ceil(FIELD_MM / spacing / 32))
    thickness = protocol.thickness or (cover / (protocol.slices - 1) if protocol.slices else 1.0)
    count = protocol.slices or math.ceil(cover / thickness) + 1
    shape = (matrix, matrix, count)
    spacings = np.array([spacing, spacing, thickness])
    centre = (low + high) / 2
    centre[:2] += rng.normal(0, 6, 2)
    if matrix * spacing > 330:
        # a field that holds the whole patient is centred on her
        centre[:2] = (to_scanner[:3, 3] @ axes)[:2]
    affine = np.eye(4)
    affine[:3, :3] = axes * spacings
    affine[:3, 3] = axes @ (centre - spacings * (np.array(shape) - 1) / 2)
    return shape, affine


def _enlarged(values: Array, box: Box, coarse: tuple[int, ...], fine: tuple[int, ...]) -> tuple[Box, Array]:
    """Interpolate the values of a box of a coarse grid to the samples of a finer grid with the same ends."""
    boxes, out = [], values
    for axis in range(3):
        step = (fine[axis] - 1) / max(coarse[axis] - 1, 1)
        first, last = math.ceil(box[axis].start * step), math.floor((box[axis].stop - 1) * step)
        boxes.append(slice(first, last + 1))
        matrix = interpolation_matrix(fine[axis], coarse[axis])[boxes[axis], box[axis]]
        out = np.moveaxis(np.tensordot(matrix, out, axes=(1, axis)), 0, axis)
    return (boxes[0], boxes[1], boxes[2]), out


def ct_label(found: Viscera, coarse: tuple[int, ...], fine: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Label map {1 HR-CTV, 2 bladder, 3 rectum, 4 uterus, 5 sigmoid}; walls belong to their organ.

    HR-CTV is the cervix with what is left of the tumour.
    """
    label = np.zeros(fine, dtype=np.uint8)
    parts: list[tuple[int, Box, Array]] = []
    for value, hollow in ((5, found.sigmoid), (3, found.rectum), (2, found.bladder)):
        if hollow is not None:
            parts.append((value, hollow[0], hollow[1]))
    if found.organ is not None:
        organ = found.organ
        # the uterine path is about 85 mm long
        above = (np.float32(0.36) - organ.along) * 85
        parts.append((4, organ.box, np.maximum(organ.uterus, above)))
        parts.append((1, organ.box, np.minimum(np.maximum(organ.uterus, -above), organ.tumor)))
    for value, box, distance in parts:
        where, values = _enlarged(np.clip(distance, -12, 12), box, coarse, fine)
        label[where][values < 0] = value
    return label


def _couch(grid_affine: NDArray[np.float64], signal: Array, skin: Array) -> None:
    """A flat carbon-fibre couch under the patient, in the scanner's frame."""
    touched = np.nonzero((skin < 0).any(axis=(0, 2)))[0]
    depth = np.abs(grid_affine[1, 1])
    if not len(touched):
        return
    below = (np.arange(signal.shape[1]) - touched.max()) * depth
    profile = np.select(
        [(below > 0) & (below <= 3), (below > 3) & (below <= 28), (below > 28) & (below <= 31)],
        [-80.0, -900.0, -80.0],
        default=-1000.0,
    ).astype(np.float32)
    x = grid_affine[0, 0] * np.arange(signal.shape[0]) + grid_affine[0, 3]
    wide = (np.abs(x) < 250)[:, None, None]
    outside = coverage(-skin, 1.5)
    signal += wide * outside * np.maximum(profile + 1000, 0)[None, :, None]


def _contrast(
    rng: np.random.Generator, anatomy: Anatomy, grid: Grid, canvas: Canvas, found: Viscera, width: float
) -> None:
    """Contrast medium in the bladder, denser where it settles, and the balloon of the catheter."""
    strength = float(rng.choice([0.0, rng.uniform(60, 350)], p=[0.25, 0.75]))
    if found.bladder is None:
        return
    box, distance = found.bladder
    _, y, _ = grid.at(box)
    settled = np.clip((anatomy.bladder[0][1] + 6 - y) / 26, -0.5, 1.0)
    inside = coverage(distance + np.float32(anatomy.bladder_wall), width)
    canvas.signal[box] += inside * np.float32(strength) * (np.float32(0.7) + np.float32(0.3) * settled)
    centre, semi = anatomy.bladder
    balloon = ellipsoid(grid, (centre[0], centre[1] - 2, centre[2] - 0.45 * semi[2]), (9, 9, 9))
    if balloon is not None:
        lumen = np.full(grid.shape, FAR, dtype=np.float32)
        lumen[box] = distance
        within = np.maximum(balloon[1], lumen[balloon[0]] + np.float32(anatomy.bladder_wall))
        canvas("balloon", balloon[0], coverage(within, width))


def make_ct_case(
    seed: int,
    patient: int = 0,
    visit: int = 0,
    protocol: Protocol | None = None,
    tumor_mm: tuple[float, float] = TUMOR_MM,
    applicator: bool = True,
    metal_artefacts: bool = True,
) -> PhantomCase:
    """One planning CT of one patient at one fraction; the same arguments give the same case, bit for bit.

    Anatomy, label and noise are the same with and without applicator, with and without metal artefacts.

    Args:
        seed: of the cohort.
        patient: number of the patient; the woman of the MR of the same seed and number.
        visit: fraction, from 0.
        protocol: what is not to be drawn from clinical ranges; `plane` is ignored.
        tumor_mm: range of the longest tumour diameter before treatment.
        applicator: whether an applicator with its packing is in place.
        metal_artefacts: whether its metal throws streaks.
    """
    anatomy = sample_anatomy(seed, patient, VISITS_BEFORE + visit, tumor_mm)
    rng = np.random.default_rng([seed, patient, 31, visit])
    to_scanner = pose(rng, anatomy, turn=1.5)
    shape, affine = ct_grid(rng, anatomy, to_scanner, protocol or Protocol())
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    image_grid = np.array(
        [max(2, round((n - 1) * s / m) + 1) for n, s, m in zip(shape, steps, (1.1, 1.1, 2.0), strict=True)]
    )
    size = np.minimum(image_grid, shape)
    coarse = (int(size[0]), int(size[1]), int(size[2]))
    lattice = affine.copy()
    lattice[:3, :3] *= (np.array(shape) - 1) / (size - 1)
    grid = Grid(coarse, np.linalg.inv(to_scanner) @ lattice, anatomy.warp)

    grain = grid.noise(rng, 9.0) * np.float32(0.6) + grid.noise(rng, 3.5) * np.float32(0.8)
    strands = np.maximum(1 - np.abs(grid.noise(rng, 16.0)) * np.float32(9), 0) * np.float32(2.5)
    texture = grain * np.float32(0.75) + grid.noise(rng, 2.0) * np.float32(0.65)
    levels = {name: (rng.normal(level, spread), float(rough)) for name, (level, spread, rough) in HU.items()}
    if rng.random() < 0.4:
        levels["bowel fluid"] = (float(rng.uniform(120, 260)), 25.0)
    canvas = Canvas(coarse, levels, {"": texture, "fat": texture * np.float32(0.6) + strands}, empty=-1000.0)
    width = 1.1 * float(np.linalg.norm(lattice[:3, 0]))
    skin = paint_body(anatomy, grid, width, canvas)
    found = paint_viscera(anatomy, grid, width, canvas, grain)
    _contrast(rng, anatomy, grid, canvas, found, width)
    # drawn in any case, so that what is drawn after it does not depend on it
    inserted = insert(rng, anatomy)
    metal = np.zeros(coarse, dtype=np.float32)
    if applicator:
        metal = paint_applicator(inserted, grid, width, canvas)
    _couch(lattice, canvas.signal, skin)
    strength = float(rng.uniform(45, 120)) * metal_artefacts
    canvas.signal += streaks(rng, metal, float(np.linalg.norm(lattice[:3, 0])), strength)

    hounsfield = stretch(canvas.signal, shape)
    # noise is made where the detector measures, then reconstructed to the matrix
    noise = rng.standard_normal((coarse[0], coarse[1], shape[2]), dtype=np.float32) * np.float32(rng.uniform(10, 24))
    hounsfield += stretch(noise, shape)
    image = np.clip(np.rint(hounsfield), -1024, 3071).astype(np.int16)
    info = {
        "plane": "axial",
        "spacing": [round(float(s), 4) for s in steps],
        "tumor_site": anatomy.tumor.site,
        "tumor_mm": round(float(2 * anatomy.tumor.semi.max() * anatomy.scale), 1),
    }
    dwell = implant(inserted, anatomy, to_scanner) if applicator else None
    return PhantomCase(image, ct_label(found, coarse, shape), affine, info, dwell)
