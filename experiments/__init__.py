"""One module per table or figure: `python -m experiments.NAME [--quick]`."""

import os

# As the command line does, and for the same reason: LAPACK's threads cost ten times what they save on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
