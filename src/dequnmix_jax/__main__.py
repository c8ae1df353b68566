"""Run the command line as `python -m dequnmix_jax`."""

import sys

from dequnmix_jax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
