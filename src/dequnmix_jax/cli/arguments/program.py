"""The commands about the program: demo, env and completion."""

from typing import Any

from dequnmix_jax.cli.arguments.common import add_command, add_json, add_output, add_seed

DEMO_SCENES = {"minerals": 4, "hysu": 7}
"""Scenes of `demo`, the first by default, and how many endmembers are looked for."""

SHELLS = ("bash", "zsh", "tcsh")
"""Shells of `completion`."""


def add_demo(commands: Any) -> None:
    """Add the command demo."""
    text = "unmix a scene that is shipped with the program, and compare the result with the truth"
    demo = add_command(commands, "demo", text, "", "--scene hysu -o hysu", "--seed 1 -o my_demo")
    text = (
        "minerals (generated; all fractions are known) or hysu (measured; 25 targets of known area on a meadow) "
        f"(default: {next(iter(DEMO_SCENES))})"
    )
    demo.add_argument("--scene", choices=tuple(DEMO_SCENES), default=next(iter(DEMO_SCENES)), metavar="NAME", help=text)
    add_output(demo, "FOLDER", "folder to make", "dequnmix_demo")
    counts = ", ".join(f"{count} for {name}" for name, count in DEMO_SCENES.items())
    demo.add_argument("--endmembers", type=int, metavar="N", help=f"number of endmembers (default: {counts})")
    add_seed(demo)
    add_json(demo)


def add_env(commands: Any) -> None:
    """Add the command env."""
    text = "print versions, devices, caches and variables, for the report of a fault"
    add_json(add_command(commands, "env", text, "", "--json"))


def add_completion(commands: Any) -> None:
    """Add the command completion."""
    text = "print a script that completes commands and options in a shell"
    completion = add_command(commands, "completion", text, "bash", "zsh")
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")
