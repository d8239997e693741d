"""T2-weighted MR of the phantom: acquisition geometry, signal of the tissues, coil, blur and noise."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scripts.data.phantom.body import paint_body
from scripts.data.phantom.canvas import Canvas, PhantomCase, Protocol, directions, organ_extent, pose, subsampled
from scripts.data.phantom.cervix_uterus import organ_label
from scripts.data.phantom.interpolation import stretch
from scripts.data.phantom.sampled_anatomy import TUMOR_MM, Anatomy, sample_anatomy
from scripts.data.phantom.shapes import Array, Grid, rotation
from scripts.data.phantom.viscera import paint_viscera

# signal of T2w turbo spin echo without fat saturation (subcutaneous fat 1), spread between patients, texture within
SIGNAL = {
    "skin": (0.30, 0.03, 0.02),
    "fat": (0.95, 0.04, 0.05),
    "muscle": (0.17, 0.02, 0.045),
    "cortex": (0.05, 0.01, 0.01),
    "marrow": (0.56, 0.07, 0.06),
    "disc": (0.30, 0.06, 0.05),
    "csf": (1.15, 0.05, 0.03),
    "cartilage": (0.32, 0.04, 0.02),
    "artery": (0.06, 0.02, 0.02),
    "vein": (0.24, 0.10, 0.04),
    "vessel wall": (0.20, 0.03, 0.03),
    "bowel wall": (0.33, 0.04, 0.03),
    "bowel fluid": (0.85, 0.15, 0.12),
    "chyme": (0.42, 0.08, 0.10),
    "stool": (0.36, 0.10, 0.13),
    "gas": (0.02, 0.005, 0.01),
    "bladder wall": (0.25, 0.03, 0.03),
    "urine": (1.25, 0.08, 0.01),
    "mucosa": (0.62, 0.06, 0.05),
    "ovary": (0.45, 0.06, 0.05),
    "follicle": (1.10, 0.08, 0.03),
    "parametrium": (0.68, 0.05, 0.10),
    "venous plexus": (0.55, 0.16, 0.14),
    "vagina wall": (0.30, 0.03, 0.03),
    "myometrium": (0.40, 0.035, 0.045),
    "outer stroma": (0.36, 0.03, 0.04),
    "stroma": (0.19, 0.02, 0.025),
    "junctional zone": (0.22, 0.02, 0.03),
    "endometrium": (0.85, 0.06, 0.04),
    "endocervix": (0.48, 0.05, 0.05),
    "canal": (0.85, 0.08, 0.04),
    "fibroid": (0.20, 0.03, 0.05),
    "tumor": (0.62, 0.04, 0.065),
    "necrosis": (0.85, 0.08, 0.05),
}
AXIAL = ("LPS", "LPS", "LAS", "RAS")
SAGITTAL = ("PSR", "PIL", "ASL")


def acquisition(
    rng: np.random.Generator, anatomy: Anatomy, to_scanner: NDArray[np.float64], protocol: Protocol
) -> tuple[tuple[int, int, int], NDArray[np.float64], str]:
    """Choose shape, affine (index to scanner mm) and plane so that the whole organ is in view.

    A slice passes through the middle of the tumour, so that the smallest one is seen.
    """
    plane = protocol.plane or str(rng.choice(["axial", "sagittal"], p=[0.65, 0.35]))
    codes = str(rng.choice(AXIAL if plane == "axial" else SAGITTAL))
    oblique = rng.random() < 0.3
    tilt = rotation(0, rng.uniform(5, 18), 0) if oblique and plane == "axial" else rotation(*rng.normal(0, 2, 3))
    axes = directions(codes, tilt)
    low, high = organ_extent(anatomy, to_scanner, axes)
    extent = high - low
    view = max(rng.uniform(200, 260), extent[:2].max() + 20)
    cover = extent[2] + rng.uniform(14, 30)
    if protocol.slices and protocol.thickness is None:
        count = protocol.slices
        thickness = max(3.0, cover / (count - 1))
    else:
        thickness = protocol.thickness or float(np.clip(rng.uniform(3, 6), max(3.0, cover / 39), 6.0))
        count = protocol.slices or max(24, math.ceil(cover / thickness) + 1)
    if protocol.matrix:
        matrix, spacing = protocol.matrix, protocol.spacing or view / protocol.matrix
    else:
        spacing = protocol.spacing or float(np.clip(rng.uniform(0.4, 0.7), view / 512, 0.7))
        matrix = 32 * math.ceil(view / spacing / 32)
    shape = (matrix, matrix, count)
    spacings = np.array([spacing, spacing, thickness])
    centre = (low + high) / 2
    centre[:2] += rng.uniform(-1, 1, 2) * np.maximum(matrix * spacing - extent[:2] - 16, 0) / 2 * 0.35
    origin = centre - spacings * (np.array(shape) - 1) / 2
    tumor = to_scanner[:3, :3] @ anatomy.tumor.centre + to_scanner[:3, 3]
    off = (tumor @ axes - origin)[2] / thickness
    origin[2] += (off - round(off)) * thickness
    affine = np.eye(4)
    affine[:3, :3] = axes * spacings
    affine[:3, 3] = axes @ origin
    return shape, affine, plane


def _coil(rng: np.random.Generator, grid: Grid, skin: Array) -> Array:
    """Sensitivity: brighter under a surface coil in front and behind, with a smooth residual."""
    near = np.exp(np.minimum(skin, 0) / np.float32(rng.uniform(35, 60)))
    smooth = grid.noise(rng, 110.0)
    return np.float32(1) + np.float32(rng.uniform(0.1, 0.45)) * near + np.float32(rng.uniform(0.04, 0.10)) * smooth


def _septa(rng: np.random.Generator, grid: Grid, texture: Array) -> Array:
    """Fat is crossed by thin dark sheets and small vessels."""
    sheets = np.maximum(1 - np.abs(grid.noise(rng, 16.0)) * np.float32(9), 0)
    vessels = np.clip(grid.noise(rng, 5.0) - np.float32(2.1), 0, 0.7)
    return np.asarray(texture * np.float32(0.6) - sheets * np.float32(3.5) - vessels * np.float32(6), dtype=np.float32)


def _fibres(rng: np.random.Generator, grid: Grid, texture: Array) -> Array:
    """Muscle has bright streaks of fat between its bundles."""
    along = np.argmax(np.abs(grid.affine[1, :3] / grid.spacing))
    steps = np.full(3, 14.0)
    steps[along] = 4.0
    streaks = np.abs(grid.noise(rng, steps)) * np.float32(7)
    return np.asarray(texture * np.float32(0.8) + np.maximum(1 - streaks, 0) * np.float32(4.5), dtype=np.float32)


def receive(rng: np.random.Generator, signal: Array, sigma: float, shape: tuple[int, int, int]) -> Array:
    """Magnitude image (X, Y, Z) of `shape` from signal and complex noise of standard deviation `sigma` (Rician)."""
    real = signal + rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(sigma)
    imaginary = rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(sigma)
    # the scanner interpolates what it measured to the image's matrix
    out = stretch(real, shape)
    return np.hypot(out, stretch(imaginary, shape), out=out)


def make_mr_case(
    seed: int,
    patient: int = 0,
    visit: int = 0,
    protocol: Protocol | None = None,
    tumor_mm: tuple[float, float] = TUMOR_MM,
) -> PhantomCase:
    """One T2w MR of one patient at one time point; the same arguments give the same case, bit for bit.

    Args:
        seed: of the cohort.
        patient: number of the patient.
        visit: time point, from 0.
        protocol: what is not to be drawn from clinical ranges (0.4 to 0.7 mm in plane, 3 to 6 mm slices).
        tumor_mm: range of the longest tumour diameter at the first time point.
    """
    anatomy = sample_anatomy(seed, patient, visit, tumor_mm)
    rng = np.random.default_rng([seed, patient, 21, visit])
    to_scanner = pose(rng, anatomy)
    shape, affine, plane = acquisition(rng, anatomy, to_scanner, protocol or Protocol())
    into = np.linalg.inv(to_scanner)
    label = organ_label(anatomy, Grid(shape, into @ affine, anatomy.warp))

    fine_shape, fine = subsampled(affine, shape, 0.95, 2)
    grid = Grid(fine_shape, into @ fine, anatomy.warp)
    grain = grid.noise(rng, 9.0) * np.float32(0.6) + grid.noise(rng, 3.5) * np.float32(0.8)
    texture = grain * np.float32(0.75) + grid.noise(rng, 1.4) * np.float32(0.65)
    levels = {name: (max(0.01, rng.normal(level, spread)), grain) for name, (level, spread, grain) in SIGNAL.items()}
    textures = {"": texture, "fat": _septa(rng, grid, texture), "muscle": _fibres(rng, grid, texture)}
    canvas = Canvas(fine_shape, levels, textures)
    width = 1.1 * float(np.linalg.norm(fine[:3, 0]))
    skin = paint_body(anatomy, grid, width, canvas)
    paint_viscera(anatomy, grid, width, canvas, grain)
    signal = canvas.signal * _coil(rng, grid, skin)
    signal = signal.reshape(*fine_shape[:2], shape[2], -1).mean(-1)
    magnitude = receive(rng, signal, float(rng.uniform(0.018, 0.04)), shape)
    magnitude *= np.float32(rng.uniform(280, 700))
    image = np.rint(magnitude, out=magnitude).astype(np.int16)
    spacing = [round(float(s), 4) for s in np.linalg.norm(affine[:3, :3], axis=0)]
    info = {
        "plane": plane,
        "spacing": spacing,
        "tumor_site": anatomy.tumor.site,
        "retroverted": anatomy.retroverted,
        "tumor_mm": round(float(2 * anatomy.tumor.semi.max() * anatomy.scale), 1),
    }
    return PhantomCase(image, label, affine, info)
