"""Reference pages: one for the package and one for each wing, with every name of `__all__`."""

import ast
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import dequnmix_jax as dq

PACKAGE = "dequnmix_jax"


def wings() -> list[str]:
    """Return the names of the wings, in the order of `dq.__all__`."""
    return [name for name in dq.__all__ if isinstance(getattr(dq, name), ModuleType)]


def public(module: ModuleType) -> list[str]:
    """Return the public names of a module: `__all__`, or the functions and classes that it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    defined = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return [name for name in defined if not name.startswith("_")]


def homes(module: ModuleType) -> dict[str, str]:
    """Return where each name of a package is defined, as `from ... import` under TYPE_CHECKING says."""
    found = {}
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def first_sentence(value: Any) -> str:
    """Return the first line of a docstring, for a table."""
    lines = (inspect.getdoc(value) or "").splitlines() if callable(value) or isinstance(value, ModuleType) else []
    return lines[0].replace("|", "\\|") if lines else ""


def places() -> dict[str, str]:
    """Return the page and anchor of each public name `dq.NAME` and `dq.WING.NAME`."""
    found = {}
    for wing in wings():
        found[f"dq.{wing}"] = f"{wing}.md"
        for name in public(getattr(dq, wing)):
            found[f"dq.{wing}.{name}"] = f"{wing}.md#{anchor(wing, name)}"
    return found | {f"dq.{name}": f"dq.md#{anchor('dq', name)}" for name in dq.__all__ if f"dq.{name}" not in found}


def anchor(wing: str, name: str) -> str:
    """Return the anchor of a name on its page."""
    return f"{wing}-{name}".lower().replace("_", "-")


def _entry(label: str, name: str, wing: str, identifier: str) -> str:
    return (
        f"[](){{#{anchor(wing, name)}}}\n\n::: {identifier}\n    options:\n      show_root_heading: true\n"
        f"      heading: {label}\n      toc_label: {name}\n      heading_level: 2\n"
    )


def _wing_page(wing: str) -> str:
    module = getattr(dq, wing)
    where, parts = homes(module), [f"# dq.{wing}\n", inspect.getdoc(module) or "", "\n"]
    for name in public(module):
        identifier = where.get(name, f"{module.__name__}.{name}")
        parts.append(_entry(f"dq.{wing}.{name}", name, wing, identifier))
    return "\n".join(parts)


def _top_page() -> str:
    own, elsewhere = [], []
    where, there = homes(dq), {name for wing in wings() for name in public(getattr(dq, wing))}
    for name in dq.__all__:
        value = getattr(dq, name)
        if isinstance(value, ModuleType):
            continue
        wing = next(
            (w for w in wings() if name in public(getattr(dq, w)) and getattr(getattr(dq, w), name) is value), ""
        )
        if name in there and wing:
            elsewhere.append(f"| [`dq.{name}`]({wing}.md#{anchor(wing, name)}) | {first_sentence(value)} |")
            own.append(f"## `dq.{name}` {{ #{anchor('dq', name)} data-toc-label='{name}' }}\n\n"
                       f"{first_sentence(value)} See [`dq.{wing}.{name}`]({wing}.md#{anchor(wing, name)}).\n")  # fmt: skip
        else:
            own.append(_entry(f"dq.{name}", name, "dq", where[name]))
    table = [f"| [`dq.{w}`]({w}.md) | {first_sentence(getattr(dq, w))} |" for w in wings()]
    head = (
        "# dequnmix_jax\n\n`import dequnmix_jax as dq`. The names that most programs need are here; each *wing* below "
    )
    head += "holds those of a part of the field.\n\n| wing | what it holds |\n|---|---|\n"
    return head + "\n".join(table) + "\n\n" + "\n".join(own)


def pages() -> dict[str, str]:
    """Return the pages, by name."""
    for wing in wings():
        import_module(f"{PACKAGE}.{wing}")
    return {"reference/dq.md": _top_page()} | {f"reference/{wing}.md": _wing_page(wing) for wing in wings()}
