"""Many devices: scenes in parallel, or one large scene divided into strips of rows."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

from dequnmix_jax import mixing
from dequnmix_jax.checks import Array, InputError, check_cube, check_kind, check_mask, check_params, how_many
from dequnmix_jax.equilibrium import fixed_point_map, model, scene_statistics
from dequnmix_jax.equilibrium.config import Model
from dequnmix_jax.ops.quick_compile import is_traced
from dequnmix_jax.ops.xla import alongside
from dequnmix_jax.types import Estimate, Params, Trace

_LANE = "scenes of a device"

T = TypeVar("T")


def _axis(mesh: Mesh) -> str:
    """Return the name of the only axis of a mesh."""
    check_kind(mesh, Mesh, "mesh", "Make it by jax.make_mesh((devices,), ('scenes',)).")
    if len(mesh.axis_names) != 1:
        raise InputError(
            f"The mesh has the axes {mesh.axis_names}; expected one. Make it by jax.make_mesh((devices,), ('scenes',))."
        )
    return str(mesh.axis_names[0])


def _auto(mesh: Mesh) -> Mesh:
    """Return the mesh with an automatic axis; that of jax.make_mesh is explicit, and arrays would have to name it."""
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def shared(mesh: Mesh) -> tuple[str, str]:
    """Return the names of the axes of `over_scenes`, for `fit(..., shared=...)`: one network for all scenes."""
    return _axis(mesh), _LANE


def over_scenes(function: Callable[..., T], mesh: Mesh | None = None) -> Callable[..., T]:
    """Map a function of one scene over stacked scenes.

    Without a mesh, on one device. On an accelerator this is `jax.vmap`, which fills it. On a CPU the function is
    compiled for one scene and called for all of them from as many threads as there are cores: under `jax.vmap` each
    step would wait for the slowest solve. Inside another transformation a CPU maps one scene after the other
    (`jax.lax.map`).

    With a mesh, the scenes are divided among its devices, and on each `jax.vmap` runs over its share. No device waits
    for another: the loops of the solvers have no collectives, unless the function itself does
    (`fit(..., shared=shared(mesh))`).

    Args:
        function: of arrays or pytrees of one scene, such as `lambda key, cube: dq.fit(key, cube, config, count=4)`.
        mesh: of one axis, as jax.make_mesh gives it, or None.

    Returns:
        The function of the same arguments with a leading axis of N scenes each, N a multiple of the devices. Jit it if
        there is a mesh; without one on a CPU, jit loses the threads.

    Raises:
        InputError: the mesh has several axes; on call, if the arguments differ in N, or N is not a multiple of the
            number of devices; or there is no mesh, on a CPU, and an argument is divided over one with an explicit axis.
    """
    if mesh is None:
        return _on_one_device(function)
    name = _axis(mesh)
    local = jax.vmap(function, axis_name=_LANE)

    def mapped(*arguments: Any) -> T:
        if _scenes(arguments) % mesh.size:
            raise InputError(
                f"The mesh has {mesh.size} devices for {how_many(_scenes(arguments), 'scene')}; expected a "
                "multiple of the devices. Repeat a scene to fill up, and leave its result out."
            )
        # Without the check of varying values: all of them vary, and with it jax cannot sum over an axis of vmap.
        spread = jax.shard_map(local, mesh=_auto(mesh), in_specs=P(name), out_specs=P(name), check_vma=False)
        return spread(*arguments)

    return mapped


def _scenes(arguments: tuple[Any, ...]) -> int:
    """Return the length of the leading axis that all arguments share."""
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(arguments)}
    if len(lengths) != 1 or 0 in lengths:
        raise InputError(
            f"The arguments have leading axes of {sorted(lengths)}; expected one number of scenes in all of them. "
            "Stack the scenes (dq.parallel.stack), and close over what they share."
        )
    return int(next(iter(lengths)))


def _check_undivided(leaf: Any) -> None:
    """Raise InputError if the scenes of an array are divided over an explicit axis of a mesh."""
    # The sharding in the type: automatic axes are not part of it, and arrays divided over them can be indexed.
    spec = getattr(getattr(getattr(leaf, "aval", None), "sharding", None), "spec", None)
    if spec and spec[0] is not None:
        raise InputError(
            f"The scenes of an argument are divided over the axis {spec[0]!r} of a mesh, and over_scenes has no mesh; "
            f"expected both or neither. Pass it, over_scenes(function, mesh), or move the array to one device outside "
            "the mesh: numpy.asarray(array)."
        )


def _cores() -> int:
    """Return how many cores this process may use; not all platforms know."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _on_one_device(function: Callable[..., T]) -> Callable[..., T]:
    alone = jax.jit(function)

    def mapped(*arguments: Any) -> T:
        count = _scenes(arguments)
        if jax.default_backend() != "cpu":
            return jax.vmap(function)(*arguments)
        for leaf in jax.tree.leaves(arguments):
            _check_undivided(leaf)
        if is_traced(arguments):
            results_in_turn: T = lax.map(lambda one: function(*one), arguments)
            return results_in_turn

        # Converted and compiled here: contexts such as jax.enable_x64 do not reach other threads.
        scenes = [jax.tree.map(lambda leaf, i=number: jnp.asarray(leaf[i]), arguments) for number in range(count)]
        program = alone.lower(*scenes[0]).compile()
        with ThreadPoolExecutor(_cores()) as threads:
            results = list(threads.map(lambda scene: jax.block_until_ready(program(*scene)), scenes))
        stacked: T = jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)
        return stacked

    return mapped


def unmix_in_strips(
    params: Params, cube: Array, config: Model, mesh: Mesh, *, halo: int, mask: Array | None = None
) -> tuple[Estimate, Trace]:
    """Unmix one large scene on many devices, each with a strip of its rows; as `unmix` up to the halo.

    Each device receives `halo` rows of its neighbours' cube (ppermute); the unit of the scene and the pools of
    attention are sums and maxima over all (once, before the loop); then every device solves its strip alone and drops
    the halo. Pixels beyond the halo change the answer by about rate^halo (`certificate`); the data term does not couple
    pixels.

    Args:
        params, config: as `unmix`; `config.gradient` not Residual() with attention, which pools inside the loop.
        cube: (H, W, B), preferably divided along its rows over the mesh already.
        mesh: of one axis.
        halo: rows taken from each neighbour; at most those of a strip, ceil(H / devices).
        mask: (H, W) bool, True where the pixel is valid.

    Returns:
        (Estimate, Trace): as `unmix`; Trace has the most steps and the largest residual of all strips. Differentiable.

    Raises:
        InputError: if shapes or the configuration do not fit, in a sentence.
    """
    name = _axis(mesh)
    check_params(params)
    check_kind(config, Model, "config")
    check_cube(cube)
    check_mask(mask, cube)
    if config.pools_in_loop:
        raise InputError(
            "Model(gradient=Residual(attention=True)) pools over all pixels at every step of the loop; expected a "
            "map whose strips are solved alone. Use gradient=Energy(), or Residual(attention=False)."
        )
    height = np.shape(cube)[0]
    rows = -(-height // mesh.size)
    least = scene_statistics.pooling_reach(config) if mesh.size > 1 else 0
    if not least <= halo <= rows:
        raise InputError(
            f"halo is {halo}; expected between {least} and the {rows} rows of a strip ({height} rows on {mesh.size} "
            "devices)."
        )
    valid = mixing.valid_pixels(cube, mask)
    padding = ((0, rows * mesh.size - height), (0, 0))
    whole_cube, whole_mask = jnp.pad(mixing.wide(cube), (*padding, (0, 0))), jnp.pad(valid, padding)

    def strip(params: Params, cube: jax.Array, mask: jax.Array) -> tuple[jax.Array, Trace]:
        params = alongside(params, cube)
        cube = jnp.where(mask[..., None], cube, 0)
        pixels = lax.psum(jnp.sum(mask.astype(cube.dtype)), name)
        squares = lax.psum(jnp.sum(jnp.square(cube)), name)
        scale = scene_statistics.unit_of_sums(squares, pixels, cube.shape[-1])
        near, near_mask = (_with_halo(x, halo, name, mesh.size) for x in (cube, mask))
        core = jnp.zeros(near_mask.shape, bool).at[halo : halo + rows].set(True)
        pools = None
        if scene_statistics.pools_channels(config):
            total, highest = scene_statistics.pool_tile(params, near, near_mask, core, scale)
            # The maximum over devices by all_gather, because pmax has no derivative.
            pools = lax.psum(total, name) / jnp.maximum(pixels, 1), jnp.max(lax.all_gather(highest, name), axis=0)
        whole = scene_statistics.Scenewide(scale, pools)
        initial = alongside(fixed_point_map.initial_state(params, near, config), near)
        state, trace, _ = fixed_point_map.solve_map(params, near, config, initial=initial, mask=near_mask, whole=whole)
        return state[halo : halo + rows], jax.tree.map(lambda x: x[None], trace)

    maps = P(name)
    state, traces = jax.shard_map(strip, mesh=_auto(mesh), in_specs=(P(), maps, maps), out_specs=maps)(
        params, whole_cube, whole_mask
    )
    estimate = model.read_state(params, state[:height], mixing.wide(cube), config, mask)
    return estimate, Trace(jnp.max(traces.steps), jnp.max(traces.residual), jnp.all(traces.converged))


def _with_halo(x: jax.Array, halo: int, name: str, devices: int) -> jax.Array:
    """Return a strip (rows, ...) with `halo` rows of the strips above and below; zeros at the ends of the scene."""
    if halo == 0:
        return x
    down = [(i, i + 1) for i in range(devices - 1)]
    above = lax.ppermute(x[x.shape[0] - halo :], name, down)
    below = lax.ppermute(x[:halo], name, [(j, i) for i, j in down])
    return jnp.concatenate([above, x, below])
