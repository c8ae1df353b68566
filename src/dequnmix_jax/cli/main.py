"""The command line `dequnmix`: finds the command, hands it typed options and reports its failure in one sentence.

A failure is one sentence on stderr and the exit status 1. Existing outputs are overwritten only with --force.
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
from dequnmix_jax.checks import InputError, sentence_of
from dequnmix_jax.cli import clock, options
from dequnmix_jax.cli.log import LOGGER, logged
from dequnmix_jax.cli.parser import parser
from dequnmix_jax.cli.signals import EndSignal, ended_cleanly
from dequnmix_jax.compilation_cache import NO_CACHE, enable_compilation_cache
from dequnmix_jax.escaping import guarded, shown

_TRACEBACK = "DEQUNMIX_TRACEBACK"

# The module of each command, its function there and the record of its options; a module is imported when it is needed.
_COMMANDS = {
    "demo": ("demo", "demo", options.DemoOptions),
    "info": ("info", "info", options.InfoOptions),
    "fit": ("fit", "fit", options.FitOptions),
    "unmix": ("unmix", "unmix", options.UnmixOptions),
    "report": ("report", "make_report", options.ReportOptions),
    "endmembers": ("endmembers", "endmembers", options.EndmembersOptions),
    "compare": ("compare", "compare_methods", options.CompareOptions),
    "convert": ("convert", "convert", options.ConvertOptions),
    "score": ("score", "score", options.ScoreOptions),
    "match": ("match", "print_matches", options.MatchOptions),
    "zones": ("zones", "write_table", options.ZonesOptions),
    "env": ("env", "env", options.EnvOptions),
    "completion": ("completion", "completion", options.CompletionOptions),
}
# Commands that compile nothing: but for env they run without jax, whose import takes most of a second.
_WITHOUT_JAX = ("info", "match", "zones", "env", "completion")


def _run(args: Namespace) -> None:
    if args.command not in _WITHOUT_JAX and not os.environ.get(NO_CACHE):
        enable_compilation_cache()
    module, name, record = _COMMANDS[args.command]
    command = getattr(import_module(f"dequnmix_jax.cli.{module}"), name)
    given: object = options.options_of(record, args)
    options.check_outputs(given)
    command(given)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the words after the program's name; None: those of the process.

    Returns:
        The exit status: 0; 1 after a failure; 128 plus the number of the signal that ended it (130 after Ctrl-C, 143
        after SIGTERM, 129 after SIGHUP). Misspelt options end the process with 2.
    """
    clock.start()
    with guarded(), ended_cleanly() as end:
        status = _exit_status(argv, end)
        if argv is None and status > 128:
            # Everything is cleaned up. After an interrupted XLA compilation the interpreter crashes when it shuts down,
            # and the status would be that of the crash.
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(status)
    return status


def _exit_status(argv: Sequence[str] | None, end: EndSignal) -> int:
    """Run the command line and return the exit status."""
    args = parser(__version__).parse_args(argv)
    # jaxlib reads this when it loads LAPACK, whose threads wait for each other in busy loops where other processes use
    # the cores: on two busy cores the QR decomposition of 62,500 pixels in 200 bands took 12 s of CPU time, on one
    # thread 0.2 s.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "JAXopt is no longer maintained", DeprecationWarning)
            with logged(args.log_file, sys.argv[1:] if argv is None else list(argv), __version__):
                status = _status_of(args, end)
                LOGGER.debug("exit status %d", status)
                return status
    except InputError as error:  # of the log itself
        return _failed(error)


def _status_of(args: Namespace, end: EndSignal) -> int:
    """Run a command, say why it failed, and return the exit status."""
    try:
        _run(args)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        print(f"\ndequnmix: {str(error) or 'interrupted; no output is half written.'}", file=sys.stderr)
        return 128 + end.number
    except BrokenPipeError:
        # The reader of the pipe has gone. What is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if os.environ.get(_TRACEBACK) or args.verbose:
            traceback.print_exc()
        elif args.log_file is not None:
            LOGGER.debug("why it failed\n%s", shown(traceback.format_exc(), lines=True))
        return _failed(error)
    return 0


def _failed(error: BaseException) -> int:
    """Print the sentence of a failure and return its exit status."""
    print(f"dequnmix: {sentence_of(error)}", file=sys.stderr)
    return 1
