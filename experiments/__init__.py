"""One module per table or figure: `python -m experiments.WING.NAME [--quick]`.

* `comparison`: methods side by side on one scene; ablations; pictures.
* `equilibrium`: what the fixed point costs, converges to and certifies.
* `defaults`: how the defaults were chosen, on generated scenes.
* `robustness`: damaged files, ended processes, mutants, large scenes.
* `shared`: scenes, methods and tables that the others use; `baselines`: published methods.
"""

import os

# As the command line does (`dequnmix_jax.cli`), and for the same reason.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
