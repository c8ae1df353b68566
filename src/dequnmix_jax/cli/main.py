"""The command line: `dequnmix demo | info | fit | unmix | report | endmembers | convert | score | match`.

A failure is one sentence on stderr and the exit status 1; nothing that exists is overwritten without --force.
"""

import os
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

from dequnmix_jax import __version__
from dequnmix_jax.checks import InputError
from dequnmix_jax.cli.parser import NO_CACHE, parser
from dequnmix_jax.cli.signals import Asked, ended_cleanly
from dequnmix_jax.compilation_cache import enable_compilation_cache
from dequnmix_jax.escaping import guarded, shown

_TRACEBACK = "DEQUNMIX_TRACEBACK"

# The module of each command and its function there; modules are imported when they are asked for.
_COMMANDS = {
    "demo": ("demo", "demo"),
    "info": ("info", "info"),
    "fit": ("fit", "fit"),
    "unmix": ("unmix", "unmix"),
    "report": ("report", "make_report"),
    "endmembers": ("endmembers", "endmembers"),
    "convert": ("convert", "convert"),
    "score": ("score", "score"),
    "match": ("match", "print_matches"),
}
# Commands that compile nothing: they run without jax, whose import takes most of a second.
_WITHOUT_JAX = ("info", "match")


def _run(args: Namespace) -> None:
    if args.command not in _WITHOUT_JAX and not os.environ.get(NO_CACHE):
        enable_compilation_cache()
    module, name = _COMMANDS[args.command]
    getattr(import_module(f"dequnmix_jax.cli.{module}"), name)(args)


def _sentence(error: BaseException) -> str:
    """Return what a failure means to the user, in a sentence or two on one line."""
    if isinstance(error, InputError):
        text = str(error)
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        text = "The machine has too little memory for this scene; unmix a part of it, or fewer bands."
    elif isinstance(error, OSError):
        said = error.strerror or str(error) or type(error).__name__
        text = f"{said}: {error.filename or 'an output'}. Check the space and the permissions there."
    else:
        reason = (str(error).splitlines() or ["no message"])[0][:200]
        text = (
            f"{type(error).__name__}: {reason}. This is a fault of the program and not of the input; please report it "
            f"with what {_TRACEBACK}=1 prints."
        )
    return shown(" ".join(text.split()))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after the program's name; those of the process when None.

    Returns:
        The exit status: 0, 1 after a failure, 128 and the signal's number after one that asks to end (130 after Ctrl-C,
        143 after SIGTERM, 129 after SIGHUP). Misspelt options end the process with 2.
    """
    with guarded(), ended_cleanly() as asked:
        status = _ended(argv, asked)
        if argv is None and status > 128:
            # All is cleared up. A compilation of XLA that was interrupted makes the interpreter crash when it takes
            # itself apart, and the status would be that of the crash.
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)
    return status


def _ended(argv: Sequence[str] | None, asked: Asked) -> int:
    """Run the command line and return the exit status."""
    args = parser(__version__).parse_args(argv)
    # Read when jaxlib loads LAPACK. Its threads wait for each other in busy loops where others use the cores too: on
    # two busy ones the QR decomposition of 62,500 pixels in 200 bands took 12 s of CPU time, and 0.2 s on one thread.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
            _run(args)
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        print(f"\ndequnmix: {str(error) or 'interrupted; no output is half written.'}", file=sys.stderr)
        return 128 + asked.number
    except BrokenPipeError:
        # The reader of a pipe left: nobody is there to be told. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get(_TRACEBACK):
            traceback.print_exc()
        print(f"dequnmix: {_sentence(error)}", file=sys.stderr)
        return 1
    return 0
