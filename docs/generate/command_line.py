"""The reference page of the command line, from its parser."""

import argparse

from dequnmix_jax import __version__
from dequnmix_jax.cli.parser import parser

_HEAD = """# Command line

`dequnmix COMMAND --help` prints what this page holds; both come from one parser. A failure is one sentence on stderr
and the exit status 1; a misspelt option has the exit status 2; an interrupted command has 128 plus the number of the
signal. Nothing is overwritten without `--force`. `--json` prints JSON for other programs.

"""


def _flags(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{action.metavar or action.dest}`"
    value = action.metavar if action.nargs != 0 else ""
    if isinstance(value, tuple):
        value = " ".join(value)
    if action.nargs != 0 and value is None:
        value = "WORD" if action.choices else action.dest.upper()
    return ", ".join(f"`{flag} {value}`".replace(" `", "`") for flag in action.option_strings)


def _cell(text: str) -> str:
    return text.replace("%%", "%").replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def _command(name: str, command: argparse.ArgumentParser) -> str:
    first, *further = command.format_usage().removeprefix("usage: ").strip().splitlines()
    usage = "\n".join([first, *(f"    {line.strip()}" for line in further)])
    parts = [f"## dequnmix {name}", command.description or "", f"```text\n{usage}\n```"]
    for group in command._action_groups:
        actions = [action for action in group._group_actions if action.help != argparse.SUPPRESS]
        if not actions:
            continue
        title = {"positional arguments": "arguments", "options": "options"}.get(group.title or "", group.title or "")
        parts.append(f"**{title}**" + (f": {group.description}" if group.description else ""))
        rows = "\n".join(f"| {_flags(action)} | {_cell(action.help or '')} |" for action in actions)
        heading = title.rstrip("s") if title in ("arguments", "options") else "option"
        parts.append(f"| {heading} | meaning |\n|---|---|\n{rows}")
    if command.epilog:
        parts.append(f"```text\n{command.epilog}\n```")
    return "\n\n".join(parts)


def page() -> str:
    """Return the page."""
    whole = parser(__version__)
    commands = next(action for action in whole._actions if isinstance(action, argparse._SubParsersAction)).choices
    return _HEAD + "\n\n".join(_command(name, command) for name, command in commands.items()) + "\n"
