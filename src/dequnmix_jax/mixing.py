"""Mix spectra, Y = A E, and project abundances on the simplex and the cone.

Spectra are rows, so that the linear mixing model of a whole scene is one matrix product. Every product uses
precision="highest": its inner dimension is a few endmembers or one spectrum, so that it costs nothing, and the
TensorFloat-32 default of recent GPUs would round reflectance to three digits.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dequnmix_jax.checks import Array, InputError, check_cube, check_endmembers, check_mask
from dequnmix_jax.conventions import check_convention, factors_to, rescale
from dequnmix_jax.ops.guards import positive
from dequnmix_jax.ops.xla import largest

_NETWORK_UP_TO = 32
"""Endmembers up to which entries are sorted by a network of comparators. Measured on 2 CPU cores, float32, 95 x 95
pixels, the whole projection with it and with XLA's sort: 0.06 / 1.0 ms at R = 3, 0.08 / 2.0 at 6, 0.16 / 8.4 at 16,
0.56 / 17 at 32. There it compiles in 0.7 s, XLA's sort in 0.2."""


def check_abundances(abundances: Array, endmembers: Array) -> None:
    """Raise InputError unless `abundances` is (H, W, R) with one map for each of the (R, B) endmembers."""
    check_endmembers(endmembers)
    check_cube(abundances, "abundances")
    if np.shape(abundances)[2] != np.shape(endmembers)[0]:
        raise InputError(
            f"abundances have shape {np.shape(abundances)} and endmembers {np.shape(endmembers)}; expected one map for "
            f"each endmember, (rows, columns, {np.shape(endmembers)[0]})."
        )


def linear_mix(abundances: Array, endmembers: Array) -> jax.Array:
    """Mix endmembers linearly.

    Y = A E, in every pixel y = sum_r a_r e_r.

    Args:
        abundances: (H, W, R), any real values.
        endmembers: (R, B), in the units of the cube.

    Returns:
        (H, W, B), in the units of the endmembers.

    Raises:
        InputError: if the shapes do not fit.

    Reference:
        Keshava and Mustard, Spectral unmixing, IEEE Signal Processing Magazine 19(1), 2002.
    """
    check_abundances(abundances, endmembers)
    A = jnp.asarray(abundances)
    # Pixels on one axis: with two of them the gradient in E transposes a whole cube (2 CPU cores, 95 x 95 x 156, value
    # and gradient of a sum of sines of this: 47 CPU ms against 27).
    flat = jnp.matmul(A.reshape(-1, A.shape[2]), jnp.asarray(endmembers), precision="highest")
    return flat.reshape(*A.shape[:2], -1)


def scaled_mix(abundances: Array, endmembers: Array, brightness: Array) -> jax.Array:
    """Mix endmembers linearly under a brightness of each pixel (illumination, slope).

    y = s * sum_r a_r e_r.

    Args:
        abundances: (H, W, R), usually on the unit simplex.
        endmembers: (R, B), in the units of the cube.
        brightness: (H, W), the factor s >= 0.

    Returns:
        (H, W, B), in the units of the endmembers.

    Raises:
        InputError: if the shapes do not fit.

    Reference:
        Drumetz et al., Blind hyperspectral unmixing using an extended linear mixing model to address spectral
        variability, IEEE TIP 25(8), 2016 (its case of one scale for all endmembers of a pixel).
    """
    check_abundances(abundances, endmembers)
    if np.shape(brightness) != np.shape(abundances)[:2]:
        raise InputError(
            f"brightness has shape {np.shape(brightness)}; expected one value a pixel, {np.shape(abundances)[:2]}."
        )
    return linear_mix(jnp.asarray(brightness)[..., None] * jnp.asarray(abundances), endmembers)


def gram(endmembers: Array) -> jax.Array:
    """Return the inner products of the endmembers, E E^T.

    Args:
        endmembers: (R, B).

    Returns:
        (R, R), units of the cube squared.

    Raises:
        InputError: unless `endmembers` is (R, B).
    """
    check_endmembers(endmembers)
    E = jnp.asarray(endmembers)
    return jnp.matmul(E, E.T, precision="highest")


def wide(cube: Array) -> jax.Array:
    """Return an array of half precision or of integers in float32, any other unchanged.

    A cube may be stored in float16 or bfloat16, which halves its memory and keeps three, or two to three, digits of
    reflectance; all computation is in float32 or wider. Endmembers may also be integers.
    """
    Y = jnp.asarray(cube)
    return Y.astype(jnp.float32) if Y.dtype.itemsize < 4 or jnp.issubdtype(Y.dtype, jnp.integer) else Y


def valid_pixels(cube: Array, mask: Array | None) -> jax.Array:
    """Return the mask of valid pixels (H, W) bool of a cube (H, W, B): all of them if the mask is None."""
    return jnp.ones(np.shape(cube)[:2], bool) if mask is None else jnp.asarray(mask)


def correlate(cube: Array, endmembers: Array) -> jax.Array:
    """Return the inner products of every pixel with the endmembers, Y E^T.

    Args:
        cube: (H, W, B).
        endmembers: (R, B).

    Returns:
        (H, W, R), units of the cube squared.

    Raises:
        InputError: if the shapes do not fit.
    """
    check_cube(cube)
    check_endmembers(endmembers, np.shape(cube)[2])
    Y = jnp.asarray(cube)
    flat = jnp.matmul(Y.reshape(-1, Y.shape[2]), jnp.asarray(endmembers).T, precision="highest")  # as in linear_mix
    return flat.reshape(*Y.shape[:2], -1)


def project_cone(values: Array) -> jax.Array:
    """Project on the non-negative cone.

    max(v, 0), the nearest point with all entries >= 0.

    Args:
        values: any shape.

    Returns:
        The shape of `values`, >= 0; NaN stays NaN.
    """
    # jax.nn.relu and not jnp.maximum: its derivative at 0 is 0 and not 1/2, so that an entry at 0 stays there.
    return jax.nn.relu(jnp.asarray(values))


def project_simplex(values: Array) -> jax.Array:
    """Project on the unit simplex along the last axis, exactly.

    argmin |a - v|^2 subject to a >= 0, sum a = 1: a = max(v - tau, 0), where with u the entries of v in descending
    order tau = max_k (u_1 + ... + u_k - 1) / k.

    The derivative is that of the active face, (I - 1 1^T / k) on the k positive entries.

    Args:
        values: (..., R), any real values.

    Returns:
        (..., R), >= 0 and summing to one to rounding; all NaN if an entry is not finite.

    Raises:
        InputError: if `values` has no last axis, or an empty one.

    Reference:
        Held, Wolfe and Crowder, Validation of subgradient optimization, Mathematical Programming 6, 1974.

    >>> project_simplex(jnp.array([2.0, 1.5, -1.0])).tolist()
    [0.75, 0.25, 0.0]
    """
    if np.ndim(values) == 0 or np.shape(values)[-1] == 0:
        raise InputError(f"values have shape {np.shape(values)}; expected (..., R) with R at least 1.")
    return _project(jnp.asarray(values))


@jax.custom_jvp
def _project(v: jax.Array) -> jax.Array:
    # The projection does not change when a number is added to all entries: near zero floats are dense.
    v = v - jnp.max(v, axis=-1, keepdims=True)
    return jnp.maximum(v - _threshold(v), 0.0)


@_project.defjvp
def _project_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    """Differentiate on the active face, which is locally constant: the search for it is not differentiated."""
    projected = _project(primals[0])
    inside = projected > 0.0
    tangent = jnp.where(inside, tangents[0], 0.0)
    size = jnp.maximum(jnp.sum(inside, axis=-1, keepdims=True), 1).astype(tangent.dtype)
    mean = jnp.sum(tangent, axis=-1, keepdims=True) / size
    return projected, jnp.where(inside, tangent - mean, 0.0)


def _threshold(v: jax.Array) -> jax.Array:
    """Return tau (..., 1) of the projection of v on the simplex.

    Entries are never compared with copies of themselves to count or to rank. If v is an expression, XLA may compute it
    again for each use, and round each copy differently: v >= v can be False. A maximum, a minimum and a sum change by
    no more than their operands, so that copies that differ by a rounding change tau by a rounding.
    """
    count = v.shape[-1]
    if count > _NETWORK_UP_TO:
        u = jnp.flip(jnp.sort(v, axis=-1), axis=-1)
        k = jnp.arange(1, count + 1, dtype=v.dtype).reshape((1,) * (v.ndim - 1) + (count,))
        return jnp.max((jnp.cumsum(u, axis=-1) - 1.0) / k, axis=-1, keepdims=True)
    entries = [v[..., r] for r in range(count)]
    for high, low in _comparators(count):
        a, b = entries[high], entries[low]
        entries[high], entries[low] = jnp.maximum(a, b), jnp.minimum(a, b)
    total = entries[0]
    tau = total - 1.0
    for rank in range(1, count):
        total = total + entries[rank]
        tau = jnp.maximum(tau, (total - 1.0) / (rank + 1))
    return tau[..., None]


def _comparators(count: int) -> list[tuple[int, int]]:
    """Return the pairs (larger, smaller) that sort `count` numbers: Batcher's odd-even merge (AFIPS 32, 1968)."""
    size = 1 << (count - 1).bit_length()
    powers = [1 << n for n in range(size.bit_length() - 1)]
    return [
        (j + i, j + i + k)
        for p in powers
        for k in reversed(powers[: p.bit_length()])
        for j in range(k % p, size - k, 2 * k)
        for i in range(min(k, size - j - k))
        if (i + j) // (2 * p) == (i + j + k) // (2 * p) and i + j + k < count
    ]


def normalise_abundances(values: Array, mask: Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Split non-negative coefficients into abundances and brightness.

    s = sum_r x_r, a = x / s. A pixel with s = 0 has no information on its composition: it gets a = 1/R and
    s = 0, so that abundances sum to one in every valid pixel and s * a = x still holds.

    Args:
        values: (H, W, R), >= 0.
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        abundances: (H, W, R), >= 0, summing to one; 0 in masked pixels.
        brightness: (H, W), >= 0; 0 in masked pixels. Gradients are finite everywhere (0 for a in dark pixels).

    Raises:
        InputError: if the shapes do not fit.
    """
    check_cube(values, "values")
    check_mask(mask, values)
    x = jnp.asarray(values)
    total = jnp.sum(x, axis=-1, keepdims=True)
    # Below the root of the smallest normal number, 1/s^2 in the derivative is not finite.
    dark = total <= jnp.sqrt(jnp.finfo(x.dtype).tiny)
    uniform = jnp.asarray(1.0 / x.shape[-1], x.dtype)
    abundances = jnp.where(dark, uniform, x / jnp.where(dark, 1.0, total))
    brightness = total[..., 0]
    if mask is not None:
        abundances = jnp.where(mask[..., None], abundances, 0.0)
        brightness = jnp.where(mask, brightness, 0.0)
    return abundances, brightness


def scale_to_unit_maximum(endmembers: Array) -> jax.Array:
    """Divide each spectrum by its maximum.

    e_r / max_b e_rb; a spectrum without a positive entry does not change.

    Args:
        endmembers: (R, B), in any units.

    Returns:
        (R, B), maximum 1, no unit.

    Raises:
        InputError: unless `endmembers` is (R, B).
    """
    check_endmembers(endmembers)
    E = jnp.asarray(endmembers)
    top = largest(E, -1)[:, None]
    return E / positive(top)


def convert(abundances: Array, levels: Array, to: str, brightness: Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Convert fractions to another convention, from the other one.

    With spectra E (R, B) in the units of the cube and their levels c_r = max_b e_rb, the same pixel is
    y = s sum_r a_r e_r ("reflectance") and y = s' sum_r a'_r e_r / c_r ("scaled"):

        to "scaled":       a'_r = c_r a_r / sum_k c_k a_k,      s' = s sum_k c_k a_k
        to "reflectance":  a_r = (a'_r / c_r) / sum_k a'_k / c_k,  s = s' sum_k a'_k / c_k

    Exact and differentiable in all arrays; one undoes the other. `Result.in_convention` does this for a result.

    Args:
        abundances: (H, W, R), >= 0, in the other convention.
        levels: (R,), > 0, in the units of the cube: the maximum of each spectrum.
        to: "reflectance" or "scaled".
        brightness: (H, W), in the other convention; None: 1.

    Returns:
        abundances: (H, W, R), summing to one; 0 where all fractions of a pixel are 0.
        brightness: (H, W).

    Raises:
        InputError: if the shapes do not fit or the word is unknown.

    >>> convert(jnp.array([[[0.5, 0.5]]]), jnp.array([3.0, 1.0]), "scaled")[0].tolist()
    [[[0.75, 0.25]]]
    """
    check_cube(abundances, "abundances")
    check_convention(to, "to")
    if np.shape(levels) != np.shape(abundances)[2:]:
        raise InputError(
            f"levels have shape {np.shape(levels)} and abundances {np.shape(abundances)}; expected one level for each "
            "endmember."
        )
    if brightness is not None and np.shape(brightness) != np.shape(abundances)[:2]:
        raise InputError(
            f"brightness has shape {np.shape(brightness)}; expected one value a pixel, {np.shape(abundances)[:2]}."
        )
    A = jnp.asarray(abundances)
    s = jnp.ones(A.shape[:2], A.dtype) if brightness is None else jnp.asarray(brightness)
    converted: tuple[jax.Array, jax.Array] = rescale(A, factors_to(to, jnp.asarray(levels, A.dtype)), s)
    return converted
