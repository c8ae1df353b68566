r"""A model of scenes: generated scenes of many families, with known truth, wider than what one expects to meet.

    y = s (sum_r a_r e_r + products) + noise

`draw(key, family, size)` draws one scene of a family, `draw_batch` many at once; one compiled program serves all
families and all sources of spectra of a size. What a method learns on some families is judged on those left out, and
what it learns on training minerals is judged on test minerals.

* `families`: the families, and from which ranges each draws its numbers.
* `materials`: spectra (minerals of the USGS library, or random), the bands of a sensor, the choice of R materials.
* `layouts`: how abundances a lie in space.
* `optics`: brightness s, variability of e_r, mixing, noise.
* `scenes`: these parts together.
* `corpus`: many scenes on disk.

Shapes: rows H and columns W from 20 to 128, bands B from 40 to 300, materials R from 2 to 10 are what it was made for;
others are not refused. A scene is float32 and reflectance: about 0 to 1, brighter where a slope faces the sun.

**Spectra.** Minerals: a specimen of R different minerals, drawn with equal chances of each mineral. Random: smooth
curves of two Gaussian processes over wavelength, with a correlation length of 20 to 60 % and of 2 to 20 % of the range,
with up to six absorption bands. Both are sampled by Gaussian bands on the grid of a sensor: 400 to 1000, 400 to 2500 or
1000 to 2500 nm (ends varied by 5 %), the water bands at 1340 to 1440 and 1790 to 1970 nm left out or not, bands 1 to 2
times as wide as their distance, and at least as wide as the library can show (9.5 nm). The smallest angle between two
materials is 0.08 to 0.15 radians where the source has such.

**Space.** Gaussian fields on the simplex (squared exponential or Matern), Voronoi regions, squares, targets, long
gradients, thin curves, Dirichlet noise. Every material is present: where one would not reach 0.4 anywhere in the fields
it is raised; regions, squares and targets have a pure one of each. The largest abundance is capped, from 0.6 to not at
all.

**Optics.** Brightness: log-normal, smooth or rough, or that of a Lambertian terrain. Materials: level and shape vary
per pixel, smoothly, independently, or as a choice of eight variants; Hapke reflectance at local angles. Mixing: linear,
generalised bilinear, polynomial post-nonlinear, intimate. Noise: white; different from band to band, with bad bands,
correlated between bands, growing with the signal; striped. 15 to 90 dB.

References:
    Lang and Potthoff, Monte Carlo Methods and Applications 17, 2011 (fields by filtering noise). Matern, Spatial
    variation, 1960. Nascimento and Bioucas-Dias, IEEE TGRS 43(4), 2005 (Dirichlet abundances). Iordache, Bioucas-Dias
    and Plaza, IEEE TGRS 49(6), 2011 (squares on a mixed background). Drumetz et al., IEEE TIP 25(8), 2016 (levels of
    materials). Somers et al., Remote Sensing of Environment 115, 2011 (bundles). Hapke, JGR 86(B4), 1981, and Heylen,
    Parente and Gader, IEEE JSTARS 7(6), 2014 (intimate mixing, angles). Halimi et al., IEEE TGRS 49(11), 2011
    (bilinear). Altmann et al., IEEE TIP 21(6), 2012 (post-nonlinear). Clark et al., The U.S. Geological Survey digital
    spectral library, version 1, USGS open file report 93-592, 1993.
"""

from typing import TYPE_CHECKING

from dequnmix_jax.lazy import attach

if TYPE_CHECKING:
    from dequnmix_jax.datasets.generator import corpus, families, layouts, materials, optics, scenes
    from dequnmix_jax.datasets.generator.corpus import Plan, read_shard, shards, write_corpus
    from dequnmix_jax.datasets.generator.families import DESCRIPTIONS, FAMILIES, VERSION, Numbers
    from dequnmix_jax.datasets.generator.scenes import (
        CONVENTIONS,
        DrawnScene,
        SceneShape,
        draw,
        draw_batch,
        fingerprint,
        reference_abundances,
    )

__all__ = [  # noqa: RUF022 - in the order a reader meets them
    "draw", "draw_batch", "SceneShape", "DrawnScene", "reference_abundances", "CONVENTIONS",
    "FAMILIES", "DESCRIPTIONS", "VERSION", "Numbers", "fingerprint",
    "Plan", "write_corpus", "read_shard", "shards",
    "families", "materials", "layouts", "optics", "scenes", "corpus",
]  # fmt: skip

__getattr__, __dir__ = attach(
    __name__,
    {
        "datasets.generator.scenes": [
            "draw", "draw_batch", "SceneShape", "DrawnScene", "reference_abundances", "CONVENTIONS",
            "fingerprint",
        ],
        "datasets.generator.corpus": ["Plan", "write_corpus", "read_shard", "shards"],
        "datasets.generator.families": ["FAMILIES", "DESCRIPTIONS", "VERSION", "Numbers"],
    },
    ["families", "materials", "layouts", "optics", "scenes", "corpus"],
)  # fmt: skip
