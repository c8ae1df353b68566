"""Hyperspectral unmixing by deep equilibrium models, in JAX.

The usual order of use:

    import dequnmix_jax as dq

    scene = dq.read("scene.hdr")                                  # host: cube, wavelengths, mask
    params, history = dq.fit(key, scene.cube, dq.Model(), count=4)
    estimate, trace = dq.unmix(params, scene.cube, dq.Model())
    dq.write("out", estimate, scene)
"""

from dequnmix_jax.answer import reconstruct
from dequnmix_jax.certificate import Certificate, certificate
from dequnmix_jax.checks import InputError
from dequnmix_jax.choices import (
    Analytic,
    Anderson,
    BiCGSTAB,
    Broyden,
    Cone,
    Conv,
    Energy,
    JaxoptAnderson,
    Neumann,
    OneStep,
    Phantom,
    Picard,
    Residual,
    Simplex,
    Soft,
    Softmax,
)
from dequnmix_jax.classical import fcls, kkt_residual, nnls, scaled_nnls, soft_nnls
from dequnmix_jax.closed_form import scls, ucls
from dequnmix_jax.config import RECOMMENDED, Adjoint, Model, Rates, Solver, Training
from dequnmix_jax.devices import over_scenes, shared, unmix_in_strips
from dequnmix_jax.dimension import Dimension, hysime, virtual_dimension
from dequnmix_jax.endmembers import purify, vca
from dequnmix_jax.extreme import atgp, sivm
from dequnmix_jax.factoring import Factoring
from dequnmix_jax.factorisation import l_half_nmf, mvc_nmf, sgs_nmf
from dequnmix_jax.files import open_source, read, read_truth, write
from dequnmix_jax.ground import Ground
from dequnmix_jax.identify import Matches, match
from dequnmix_jax.implicit import adjoint_trace, fixed_point, unrolled
from dequnmix_jax.library import Library
from dequnmix_jax.library_files import read_library
from dequnmix_jax.measuring import Scores
from dequnmix_jax.metrics import align, armse, msad, pooled_rmse, psnr, spectral_angle, sre
from dequnmix_jax.minimum_volume import minimum_volume
from dequnmix_jax.model import equilibrium_map, init, unmix
from dequnmix_jax.neighbours import Smoother, smooth, smoother
from dequnmix_jax.objective import loss
from dequnmix_jax.patches import fit_patches
from dequnmix_jax.quality import last_change
from dequnmix_jax.records import Descent, Estimate, History, Trace
from dequnmix_jax.reporting import write_report
from dequnmix_jax.resampling import resample
from dequnmix_jax.results import Result, read_result
from dequnmix_jax.resuming import resumable_fit
from dequnmix_jax.scene import Scene
from dequnmix_jax.scene_writing import write_scene
from dequnmix_jax.simplex_volume import nfindr
from dequnmix_jax.solvers import solve
from dequnmix_jax.source import Source
from dequnmix_jax.sparse import Admm, collaborative_sunsal, sunsal, sunsal_tv
from dequnmix_jax.stacking import alike, stack
from dequnmix_jax.starting import Start, Weights, model_for, rates_for, reason, start
from dequnmix_jax.superpixels import Superpixels, superpixels
from dequnmix_jax.team import Team
from dequnmix_jax.team import join as join_team
from dequnmix_jax.tiles import Tiled, unmix_tiled
from dequnmix_jax.training import fit

__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - in the order a reader meets them
    "Scene", "Ground", "read", "open_source", "Source", "read_truth", "write", "write_scene",
    "read_result", "Result", "write_report",
    "Library", "read_library", "resample", "match", "Matches",
    "vca", "sivm", "nfindr", "atgp", "minimum_volume", "purify",
    "start", "reason", "model_for", "rates_for", "Start", "Scores", "Weights",
    "hysime", "virtual_dimension", "Dimension", "fcls", "nnls", "scaled_nnls", "soft_nnls",
    "kkt_residual",
    "smooth", "smoother", "Smoother",
    "ucls", "scls", "sunsal", "collaborative_sunsal", "sunsal_tv", "Admm",
    "mvc_nmf", "l_half_nmf", "sgs_nmf", "Factoring", "superpixels", "Superpixels",
    "Model", "Energy", "Residual", "Analytic", "Conv", "Simplex", "Cone", "Soft", "Softmax",
    "Solver", "Anderson", "Picard", "Broyden", "JaxoptAnderson",
    "Adjoint", "BiCGSTAB", "Neumann", "OneStep", "Phantom", "Training", "Rates", "RECOMMENDED",
    "init", "equilibrium_map", "unmix", "unmix_tiled", "Tiled", "last_change", "reconstruct", "fit", "loss",
    "resumable_fit", "fit_patches",
    "fixed_point", "solve", "unrolled", "adjoint_trace",
    "stack", "alike", "over_scenes", "shared", "Team", "join_team", "unmix_in_strips",
    "certificate", "Estimate", "Trace", "Descent", "History", "Certificate",
    "spectral_angle", "armse", "pooled_rmse", "msad", "psnr", "sre", "align",
    "InputError",
]  # fmt: skip
