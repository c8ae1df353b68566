"""Reference pages: one for the package and one for each wing, with every name of `__all__`."""

import ast
import inspect
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import dequnmix_jax as dq

PACKAGE = "dequnmix_jax"
_HEAD = """# dequnmix_jax

`import dequnmix_jax as dq`. The names that most programs need are here; each *wing* holds those of a part of the field.

| wing | what it holds |
|---|---|"""


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
    where, sections = homes(dq), []
    for name in dq.__all__:
        value = getattr(dq, name)
        if isinstance(value, ModuleType):
            continue
        wing = next((wing for wing in wings() if getattr(getattr(dq, wing), name, None) is value), None)
        if wing is not None and name in public(getattr(dq, wing)):  # its section is on the page of the wing
            heading = f"## `dq.{name}` {{ #{anchor('dq', name)} data-toc-label='{name}' }}"
            link = f"[`dq.{wing}.{name}`]({wing}.md#{anchor(wing, name)})"
            sections.append(f"{heading}\n\n{first_sentence(value)} See {link}.\n")
        else:
            sections.append(_entry(f"dq.{name}", name, "dq", where[name]))
    table = [f"| [`dq.{wing}`]({wing}.md) | {first_sentence(getattr(dq, wing))} |" for wing in wings()]
    return "\n".join([_HEAD, *table, "", *sections])


def pages() -> dict[str, str]:
    """Return the pages, by name."""
    for wing in wings():
        import_module(f"{PACKAGE}.{wing}")
    return {"reference/dq.md": _top_page()} | {f"reference/{wing}.md": _wing_page(wing) for wing in wings()}
