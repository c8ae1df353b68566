"""Array operations that XLA needs spelled out.

* `convolution`: 'same' convolutions with derivatives that stay convolutions, H x W x C.
* `small_systems`: many symmetric positive definite systems of a few unknowns, by elimination in plain XLA.
* `guards`: denominators, roots and unit rows that are safe at zero, derivatives included.
* `lapack`: decompositions of one matrix after the other under `jax.vmap` on a CPU.
* `xla`: carries under `jax.shard_map`, reductions over rows, the largest entry by its place.
"""
