"""Brightness, variability, mixing and noise of generated scenes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.datasets.generator.families import Numbers
from dequnmix_jax.datasets.generator.layouts import gaussian_fields
from dequnmix_jax.mixing import linear_mix

VARIANTS = 8
_CURVES = 5  # cosines over the bands
_SLOW = 4  # smooth fields that all slow variation is made of


class Light(NamedTuple):
    """Illumination of the pixels.

    Attributes:
        brightness: (H, W), factor s of the reflectance.
        incidence, emission: (H, W), cosines of the local angles of the sun and of the view; 1 without `angles`.
        slow: (4, H, W), smooth Gaussian fields, for materials that vary.
    """

    brightness: jax.Array
    incidence: jax.Array
    emission: jax.Array
    slow: jax.Array


def draw_light(key: jax.Array, shape: tuple[int, int], numbers: Numbers) -> Light:
    """Draw the illumination.

    s = exp(bright g + shade n) L^lambert: g a smooth field, n white noise, L the cosine of the incidence on a smooth
    terrain over that on flat ground, at least 0.05. The terrain's slopes have the standard deviation `relief`, the sun
    stands `zenith` degrees from the vertical in a random direction, the view is vertical.

    Args:
        key: random key.
        shape: (H, W), static.
        numbers: of `families.numbers_of`.
    """
    for_fields, for_shade, for_numbers = jax.random.split(key, 3)
    u = jax.random.uniform(for_numbers, (3,), jnp.float32)
    # 3 to 16 pixels, at most a quarter of the side.
    length = jnp.minimum(3.0 * (16.0 / 3.0) ** u[:2], 0.25 * min(shape))
    fields = gaussian_fields(for_fields, shape, (1 + _SLOW, 1), length, jnp.full((2,), jnp.inf, jnp.float32))
    smooth, slow, height = fields[0], fields[1:-1], fields[-1]
    # A field of covariance exp(-d^2 / (2 l^2)) has slopes of standard deviation 1 / l.
    down, right = (numbers.relief * length[1] * jnp.asarray(jnp.gradient(height, axis=axis)) for axis in (0, 1))
    zenith, azimuth = jnp.deg2rad(numbers.zenith), 2.0 * jnp.pi * u[2]
    upright = 1.0 / jnp.sqrt(1.0 + jnp.square(down) + jnp.square(right))
    towards = jnp.sin(zenith) * (jnp.cos(azimuth) * down + jnp.sin(azimuth) * right)
    incidence = jnp.maximum((jnp.cos(zenith) - towards) * upright, 0.05)
    terrain = jnp.maximum(incidence / jnp.cos(zenith), 0.05)
    rough = jax.random.normal(for_shade, shape, jnp.float32)
    s = jnp.exp(numbers.bright * smooth + numbers.shade * rough + numbers.lambert * jnp.log(terrain))
    share = numbers.angles
    return Light(s, 1.0 + share * (incidence - 1.0), 1.0 + share * (upright - 1.0), slow)


def albedo(reflectance: jax.Array) -> jax.Array:
    """Return the single-scattering albedo of a surface lit and viewed from the normal.

    w = 1 - g^2, r = (1 - g^2) / (1 + 2 g)^2, so that (1 + 4 r) g^2 + 4 r g - (1 - r) = 0 (Hapke 1981).

    Args:
        reflectance: any shape, in [0, 1].
    """
    r = jnp.clip(reflectance, 1e-6, 1.0 - 1e-6)
    g = (jnp.sqrt(4.0 * jnp.square(r) + (1.0 + 4.0 * r) * (1.0 - r)) - 2.0 * r) / (1.0 + 4.0 * r)
    return 1.0 - jnp.square(g)


def reflectance(albedo: jax.Array, incidence: jax.Array, emission: jax.Array) -> jax.Array:
    """Return the reflectance r = w / ((1 + 2 mu0 g) (1 + 2 mu g)), g = (1 - w)^(1/2), of an albedo w.

    Isotropic scattering without the opposition effect (Hapke 1981; Heylen et al. 2014).

    Args:
        albedo: (..., B).
        incidence, emission: (...), cosines mu0 and mu.
    """
    g = jnp.sqrt(jnp.maximum(1.0 - albedo, 0.0))
    return albedo / ((1.0 + 2.0 * incidence[..., None] * g) * (1.0 + 2.0 * emission[..., None] * g))


def varied_mix(
    key: jax.Array, abundances: jax.Array, endmembers: jax.Array, light: Light, region: jax.Array, numbers: Numbers
) -> tuple[jax.Array, jax.Array]:
    """Mix materials that vary from pixel to pixel: sum_r a_r(p) e_r(p).

    e_r(p) = e_r h_r(p) exp(level c_r0(p) + shape sum_k c_rk(p) phi_k): phi_k five cosines over the bands with weights
    1/k, scaled to variance 1 in all; c either (1 - rough)^(1/2) smooth + rough^(1/2) white fields, or those of one of
    eight variants, which a pixel has or shares with its Voronoi region; h_r the Hapke reflectance at the local angles
    over that at the normal.

    Args:
        key: random key.
        abundances: (H, W, R).
        endmembers: (R, B).
        light: of `draw_light`.
        region: (H, W) int32, Voronoi regions.
        numbers: of `families.numbers_of`.

    Returns:
        mixed: (H, W, B).
        mean: (R, B), of each material over the scene, weighted by its abundance.
    """
    count, bands = endmembers.shape
    shape = abundances.shape[:2]
    t = (np.arange(bands) + 0.5) / bands
    weights = 1.0 / np.arange(1, _CURVES + 1)
    cosines = np.cos(np.pi * np.arange(1, _CURVES + 1)[:, None] * t[None])
    waves = jnp.asarray(np.sqrt(2.0) * cosines * weights[:, None] / np.sqrt(np.sum(weights**2)), jnp.float32)
    for_kind, for_materials = jax.random.split(key)
    by_region = jax.random.uniform(for_kind, (), jnp.float32) < 0.5
    slow = jnp.moveaxis(light.slow, 0, -1)
    size = jnp.concatenate([numbers.level[None], jnp.broadcast_to(numbers.shape, (_CURVES,))])

    def add(mixed: jax.Array, material: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        key, a, e = material
        for_table, for_slow, for_pick, for_white = jax.random.split(key, 4)
        table = jax.random.normal(for_table, (VARIANTS, 1 + _CURVES), jnp.float32)
        pick = jnp.where(
            by_region, (region * 7 + 3) % VARIANTS, jax.random.randint(for_pick, shape, 0, VARIANTS, jnp.int32)
        )
        blend = jax.random.normal(for_slow, (_SLOW, 1 + _CURVES), jnp.float32)
        blend = blend / jnp.linalg.norm(blend, axis=0, keepdims=True)
        white = jax.random.normal(for_white, (*shape, 1 + _CURVES), jnp.float32)
        smooth = jnp.matmul(slow, blend, precision="highest")
        continuous = jnp.sqrt(1.0 - numbers.rough) * smooth + jnp.sqrt(numbers.rough) * white
        c = size[None, None] * jnp.where(numbers.variants > 0.5, table[pick], continuous)
        change = c[..., :1] + jnp.matmul(c[..., 1:], waves, precision="highest")
        w = albedo(e)[None, None]
        one = jnp.ones((1, 1), jnp.float32)
        local = reflectance(w, light.incidence, light.emission) / reflectance(w, one, one)
        spectrum = e[None, None] * jnp.where(numbers.angles > 0.0, local, 1.0) * jnp.exp(change)
        part = a[..., None] * spectrum
        return mixed + part, jnp.sum(part, axis=(0, 1)) / jnp.maximum(jnp.sum(a), 1e-6)

    keys = jax.random.split(for_materials, count)
    start = jnp.zeros((*shape, bands), jnp.float32)
    return jax.lax.scan(add, start, (keys, jnp.moveaxis(abundances, -1, 0), endmembers))


def mix(
    key: jax.Array, abundances: jax.Array, endmembers: jax.Array, light: Light, region: jax.Array, numbers: Numbers
) -> tuple[jax.Array, jax.Array]:
    """Mix a scene without noise.

    With x = sum_r a_r e_r(p) of `varied_mix` and the mixing of the numbers:

        linear     y = s x
        bilinear   y = s (x + sum over i < j of gamma_ij a_i a_j e_i e_j), gamma uniform in [0, interaction], each
                   pixel and pair
        bent       y = s (x + b x^2), b uniform in [-curvature, curvature], each pixel
        intimate   y = s r(sum_r a_r w(e_r)), r the Hapke reflectance at the local angles; materials vary by
                   these angles alone

    Args:
        key, abundances, endmembers, light, region, numbers: as for `varied_mix`.

    Returns:
        clean: (H, W, B).
        mean: (R, B), mean spectrum of each material, at the local angles where these count.
    """
    count = endmembers.shape[0]
    shape = abundances.shape[:2]
    for_variation, for_products = jax.random.split(key)
    varies = (numbers.level > 0.0) | (numbers.shape > 0.0) | (numbers.angles > 0.0)
    x, mean = jax.lax.cond(
        varies,
        lambda: varied_mix(for_variation, abundances, endmembers, light, region, numbers),
        lambda: (linear_mix(abundances, endmembers), endmembers),
    )

    def bilinear() -> jax.Array:
        first, second = np.triu_indices(count, 1)
        gamma = numbers.interaction * jax.random.uniform(for_products, (*shape, first.size), jnp.float32)
        products = gamma * abundances[..., first] * abundances[..., second]
        return x + linear_mix(products, endmembers[first] * endmembers[second])

    def bent() -> jax.Array:
        b = numbers.curvature * jax.random.uniform(for_products, shape, jnp.float32, -1.0, 1.0)
        return x + b[..., None] * jnp.square(x)

    def in_albedo() -> jax.Array:
        return reflectance(linear_mix(abundances, albedo(endmembers)), light.incidence, light.emission)

    y = jax.lax.switch(numbers.mixing, (lambda: x, bilinear, bent, in_albedo))
    return light.brightness[..., None] * y, mean


def add_noise(key: jax.Array, clean: jax.Array, numbers: Numbers) -> jax.Array:
    """Add noise, scaled so that mean(clean^2) / mean(noise^2) is exactly the asked ratio over the whole cube.

    n = v_b t(p, b) ((1 - stripes)^(1/2) K n_white + stripes^(1/2) q): v_b = exp(colour g_b), ten times that in bad
    bands; t = 1 - shot + shot (clean / mean clean)^(1/2); K gives neighbouring bands the correlation
    exp(-1/correlation) (first-order autoregressive); q one number for each column and band.

    Args:
        key: random key.
        clean: (H, W, B).
        numbers: of `families.numbers_of`.
    """
    for_white, for_stripes, for_bands = jax.random.split(key, 3)
    bands = clean.shape[2]
    rho = jnp.where(numbers.correlation > 0.0, jnp.exp(-1.0 / jnp.maximum(numbers.correlation, 1e-3)), 0.0)
    lag = np.arange(bands)[:, None] - np.arange(bands)[None]
    power = jnp.where(lag == 0, 1.0, jnp.power(rho, jnp.asarray(np.maximum(lag, 1), jnp.float32)))
    innovation = jnp.where(jnp.arange(bands) == 0, 1.0, jnp.sqrt(1.0 - jnp.square(rho)))
    factor = jnp.where(lag >= 0, power * innovation[None], 0.0)
    white = jax.random.normal(for_white, clean.shape, jnp.float32)
    noise = jax.lax.cond(rho > 0.0, lambda n: jnp.matmul(n, factor.T, precision="highest"), lambda n: n, white)
    columns = jax.random.normal(for_stripes, (1, *clean.shape[1:]), jnp.float32)
    noise = jnp.sqrt(1.0 - numbers.stripes) * noise + jnp.sqrt(numbers.stripes) * columns
    u = jax.random.normal(for_bands, (2, bands), jnp.float32)
    bad = jax.scipy.stats.norm.cdf(u[1]) < numbers.bad
    level = jnp.exp(numbers.colour * u[0]) * jnp.where(bad, jnp.float32(10.0), 1.0)
    grows = jnp.sqrt(jnp.maximum(clean / jnp.mean(clean), 0.0))
    noise = noise * level[None, None] * (1.0 + numbers.shot * (grows - 1.0))
    wanted = jnp.sqrt(jnp.mean(jnp.square(clean))) * 10.0 ** (-numbers.snr / 20.0)
    return clean + noise * (wanted / jnp.sqrt(jnp.mean(jnp.square(noise))))
