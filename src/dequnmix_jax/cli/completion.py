"""`dequnmix completion SHELL`: the script that completes commands and options in a shell (extra "completion")."""

from dequnmix_jax import __version__
from dequnmix_jax.checks import InputError, pip_hint
from dequnmix_jax.cli.options import CompletionOptions
from dequnmix_jax.cli.parser import parser


def completion(options: CompletionOptions) -> None:
    """Print the script."""
    try:
        import shtab
    except ImportError as error:
        raise InputError(f"Completion needs shtab, which is not installed: {pip_hint('completion')}.") from error
    print(shtab.complete(parser(__version__), shell=options.shell))
