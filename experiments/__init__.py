"""One module per table or figure: `python -m experiments.WING.NAME [--quick]`.

* `comparison`: methods side by side on the same scenes; ablations; pictures.
* `equilibrium`: cost, convergence, gradients and certificates of the fixed point.
* `defaults`: how the defaults were chosen, on generated scenes.
* `robustness`: damaged files, killed processes, mutants, large scenes.
* `operator`: the learned operator, its spectra and its scenes.
* `shared`: scenes, methods and tables that the others use; `plans`: training plans.

The competitors are in `dequnmix_jax.baselines`. These five wings import `shared`, and no experiment imports another.
"""

import os

# As the command line does (`dequnmix_jax.cli`), and for the same reason.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
