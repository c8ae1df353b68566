"""Scenes whose spectra vary from pixel to pixel by physical models: the recipe of the paper's synthetic data.

    y_n = sum_r a_rn e_rn + noise,    e_rn drawn at random from a bundle of spectra of material r            (1)

by the toolbox of Borsoi et al. (2021), which the paper cites: 50 x 50 pixels, 198 bands of AVIRIS, and three bundles.
Vegetation: leaves of PROSPECT-D with one parameter varied at a time (structure, chlorophyll, water, dry matter; ten
values each). Soil: one spectrum under 10 x 10 angles, by Hapke's model of an isotropically scattering surface. Water:
one spectrum under 200 slopes, lit by sun and sky. Written from the equations; the spectra, abundance maps and
illumination are read from the toolbox's files (folder `raw/variability` of `DEQUNMIX_DATA`), the leaves are computed by
the package `prosail` (extra `leaves`).

References:
    Borsoi, Imbiriba, Bermudez, Richard, Chanussot, Drumetz, Tourneret, Zare and Jutten, Spectral variability in
    hyperspectral data unmixing, IEEE GRSM 9(4), 2021. Feret, Gitelson, Noble and Jacquemoud, PROSPECT-D, Remote Sensing
    of Environment 193, 2017. Hapke, Bidirectional reflectance spectroscopy 1, JGR 86, 1981.
"""

import importlib.util
from pathlib import Path

import numpy as np

from dequnmix_jax import InputError
from dequnmix_jax.datasets import registry

Array = np.ndarray

LEAF = {"n": 1.5, "cab": 30.0, "car": 10.0, "ant": 1.0, "cbrown": 0.0, "cw": 0.015, "cm": 0.009}
"""The leaf of the toolbox: layers, then chlorophyll, carotenoids, anthocyanins (micrograms per square centimetre),
brown pigments (any unit), water (cm) and dry matter (g per square centimetre)."""

SWEEPS = {
    "n": np.linspace(1.0, 2.0, 10),
    "cab": np.linspace(10.0, 80.0, 10),
    "cw": np.geomspace(0.005, 0.03, 10),
    "cm": np.linspace(0.001, 0.022, 10),
}
"""The parameters that are varied, one at a time, and their values."""


def leaves(wavelengths: Array) -> Array:
    """Return the reflectance of 40 leaves, (40, B), at wavelengths in nm.

    Raises:
        InputError: without the package `prosail`.
    """
    if importlib.util.find_spec("prosail") is None:
        raise InputError(
            "The synthetic scenes of the paper need PROSPECT-D for their leaves, and the package prosail is not "
            "installed; install it with: pip install 'dequnmix-jax[leaves]'."
        )
    from prosail import run_prospect

    reflectances = []
    for name, values in SWEEPS.items():
        for value in values:
            leaf = LEAF | {name: float(value)}
            order = [leaf[key] for key in ("n", "cab", "car", "cbrown", "cw", "cm")]
            nm, reflectance, _ = run_prospect(*order, ant=leaf["ant"])
            reflectances.append(np.interp(wavelengths, nm, reflectance))
    return np.stack(reflectances)


def soils(spectrum: Array, angles: Array | None = None) -> Array:
    """Return one surface under all pairs of angles of view and of light, (len(angles)^2, B).

    r = w / ((1 + 2 m g)(1 + 2 m0 g)), g = (1 - w)^(1/2), w the albedo of a single grain, m and m0 the cosines of the
    angles from the normal. The albedo follows from the spectrum, for view and illumination at 30 degrees.

    Args:
        spectrum: (B,), reflectance in [0, 1].
        angles: degrees, below 90; None: ten from 0 to 80.
    """
    cosine = np.cos(np.deg2rad(30.0))
    # With m = m0 = c, r (1 + 2 c g)^2 = 1 - g^2: quadratic in g, (1 + 4 c^2 r) g^2 + 4 c r g - (1 - r) = 0.
    lead, middle = 1 + 4 * cosine**2 * spectrum, 2 * cosine * spectrum
    g = (np.sqrt(middle**2 + lead * (1 - spectrum)) - middle) / lead
    cosines = np.cos(np.deg2rad(np.linspace(0.0, 80.0, 10) if angles is None else angles))
    steps = 1 + 2 * cosines[:, None] * g[None]
    return ((1 - g**2)[None, None] / (steps[:, None] * steps[None])).reshape(-1, spectrum.size)


def waters(draw: np.random.Generator, spectrum: Array, sun: Array, sky: Array, count: int = 200) -> Array:
    """Return one surface under random slopes, (count, B).

    r (sun cos t + sky) / (sun + sky), t uniform in [0, 81) degrees: sunlight depends on the
    slope, skylight does not.
    """
    slope = np.cos(0.9 * np.pi / 2 * draw.random(count))[:, None]
    # The constant of the toolbox avoids division by zero in dark bands.
    return spectrum[None] * (sun[None] * slope + sky[None]) / (5e-5 + sun + sky)[None]


def bundles(draw: np.random.Generator, folder: Path | None = None) -> tuple[list[Array], Array, Array]:
    """Return the bundles of vegetation, soil and water (each (n, B)), the abundances (50, 50, 3) and wavelengths in nm.

    Args:
        draw: of the slopes of the water.
        folder: of the toolbox's files; None: `raw/variability` of `DEQUNMIX_DATA`.
    """
    from scipy.io import loadmat

    where = registry.find("raw/variability/endmembers_b.mat", download=False).parent if folder is None else folder
    bands = loadmat(where / "EM_b_SlectBands.mat")["SlectBands"].ravel().astype(int) - 1
    nm = loadmat(where / "AVIRIS_wavelengths.mat")["AVIRIS_wavlen"].ravel()[bands]
    pure = loadmat(where / "endmembers_b.mat")["M"].T
    light = loadmat(where / "atmosIlluminationModel.mat")
    sun, sky = (
        np.interp(nm, light["wavelength_nm"].ravel(), light[name].ravel())
        for name in ("Esun_direct_light", "Esky_diffuse_light")
    )
    materials = [leaves(nm), soils(pure[2]), waters(draw, pure[1], sun, sky)]
    return materials, loadmat(where / "abundance_spatial_3em.mat")["A_cube"], nm


def mix(draw: np.random.Generator, bundles: list[Array], abundances: Array) -> Array:
    """Return (H, W, B): each pixel mixes one spectrum of each bundle, drawn with equal chance."""
    total = np.zeros((*abundances.shape[:2], bundles[0].shape[1]))
    for r, bundle in enumerate(bundles):
        total += abundances[..., r : r + 1] * bundle[draw.integers(len(bundle), size=abundances.shape[:2])]
    return total
