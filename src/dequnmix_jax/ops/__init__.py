"""Array operations written for XLA.

* `convolution`: 'same' convolutions of images H x W x C, whose derivatives are canonical convolutions too.
* `small_systems`: many symmetric positive definite systems of a few unknowns, by elimination in plain XLA.
* `guards`: denominators, roots and unit rows that are safe at zero, derivatives included.
* `lapack`: decompositions that run one after the other under `jax.vmap` on a CPU.
* `quick_compile`: programs of small scenes compiled with less optimisation.
* `stored_programs`: compiled programs on disk, which the next process runs without tracing them.
* `padding`: small scenes padded with masked pixels to a few sizes, so that a new size needs no new program.
* `xla`: loop carries under `jax.shard_map`, reductions over rows, the maximum with a derivative.
"""
