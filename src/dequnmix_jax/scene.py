"""Earlier name of `scenes.scene`."""

from dequnmix_jax.scenes.scene import Scene, check_scene, mask_invalid

__all__ = ["Scene", "check_scene", "mask_invalid"]
