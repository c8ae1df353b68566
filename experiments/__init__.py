"""One module per table or figure: `python -m experiments.NAME [--quick]`."""

import os

# As the command line does (`dequnmix_jax.cli`), and for the same reason.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
