"""Building blocks of a self-contained HTML page: no network, no script, for light and dark displays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape as _html

from dequnmix_jax.escaping import shown
from dequnmix_jax.report.style import COLOURS, ON_DARK

_STYLE = """
:root { color-scheme: light dark; --page: #ffffff; --ink: #1b1f24; --soft: #57606a; --line: #d0d7de; --panel: #f6f8fa;
  --hatch: #c3c9d0; --alert: #82071e; --alert-page: #fff0f0; --good: #116329; }
@media screen and (prefers-color-scheme: dark) {
  :root { --page: #14171a; --ink: #e8eaed; --soft: #a9b1ba; --line: #3a4149; --panel: #1d2125; --hatch: #4a525b;
    --alert: #ffb3b3; --alert-page: #3a1a1d; --good: #7ee2a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 75rem; padding: 1.5rem clamp(0.8rem, 3vw, 2.5rem) 3rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 0.3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 0.6rem; padding-top: 0.5rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.2rem 0 0.3rem; }
p, ul { max-width: 48rem; margin: 0.4rem 0 0.8rem; }
ul { padding-left: 1.2rem; }
.verdicts { list-style: none; padding: 0; }
.verdicts li { margin: 0.35rem 0; padding-left: 3.6rem; text-indent: -3.6rem; overflow-wrap: anywhere; }
.verdicts b { display: inline-block; width: 3.6rem; text-indent: 0; }
.verdicts .good b { color: var(--good); } .verdicts .look b { color: var(--alert); }
.soft, figcaption small { color: var(--soft); }
.alert { color: var(--alert); background: var(--alert-page); border-left: 0.3rem solid; padding: 0.6rem 0.9rem; }
.maps { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15.5rem), 1fr)); gap: 1.4rem 1.2rem; }
.scene { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1.4rem 2rem; }
figure { margin: 0; break-inside: avoid; min-width: 0; }
.maps + figure, p + figure { margin-top: 1.4rem; }
figcaption { margin-bottom: 0.3rem; overflow-wrap: anywhere; }
figcaption strong { display: block; }
.maps figcaption small { display: block; min-height: 3em; }
img { display: block; max-width: 100%; height: auto; }
img.map { width: auto; max-height: 36rem; object-fit: contain; object-position: left top;
  background: repeating-linear-gradient(45deg, transparent 0 4px, var(--hatch) 4px 5px); }
img.curves { display: none; width: 100%; max-width: 68rem; }
img.curves.light:not(.narrow) { display: block; }
@media screen and (prefers-color-scheme: dark) {
  img.curves.light:not(.narrow) { display: none; } img.curves.dark:not(.narrow) { display: block; } }
@media screen and (max-width: 600px) {
  img.curves:not(.narrow) { display: none !important; } img.curves.light.narrow { display: block; } }
@media screen and (max-width: 600px) and (prefers-color-scheme: dark) {
  img.curves.light.narrow { display: none; } img.curves.dark.narrow { display: block; } }
.bar { height: 0.7rem; margin-top: 0.35rem; border: 1px solid var(--line); }
.ends { display: flex; justify-content: space-between; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
.unit { font-size: 0.85rem; color: var(--soft); }
.wide { overflow-x: auto; margin: 0.6rem 0 1rem; }
table { border-collapse: collapse; font-size: 0.95rem; }
caption { text-align: left; color: var(--soft); padding-bottom: 0.3rem; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 1rem 0.3rem 0; border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
thead th { vertical-align: bottom; }
td { overflow-wrap: anywhere; }
code, pre { font: 0.85rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; background: var(--panel); padding: 0.8rem; border: 1px solid var(--line); }
.swatch { display: inline-block; width: 1.1em; height: 0.75em; margin-right: 0.45em; vertical-align: -0.05em; }
.swatch.again { background: none; border: 0.2em dotted; height: 0; vertical-align: 0.2em; border-width: 0.28em 0 0; }
.placed { position: relative; display: inline-block; max-width: 100%; vertical-align: top; }
.ground { display: flex; align-items: flex-end; justify-content: space-between; gap: 0.6rem; margin-top: 0.3rem;
  font-size: 0.85rem; }
.metres { border: solid var(--ink); border-width: 0 1.5px 1.5px; height: 0.4rem; min-width: 1px; flex: none; }
.ground .label { flex: 1; }
.north { display: inline-flex; flex-direction: column; align-items: center; line-height: 1; }
.north svg { width: 0.9rem; height: 1.2rem; fill: var(--ink); }
@media (max-width: 600px) { h1 { font-size: 1.45rem; } th, td { padding-right: 0.6rem; }
  table { font-size: 0.82rem; } .maps figcaption small { min-height: 0; } }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } h2, h3 { break-after: avoid; }
  .maps { grid-template-columns: repeat(3, 1fr); } img.map { max-height: 14rem; }
  img, .bar { -webkit-print-color-adjust: exact; print-color-adjust: exact; } tr { break-inside: avoid; } }
"""

# The page may load nothing, so that markup smuggled in by a name or a path cannot load anything either.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def escape(text: str) -> str:
    """Return plain text escaped for HTML, with control characters written out as by `shown`."""
    return _html(shown(text, lines=True))


def _colours() -> str:
    """Return the style of the colours of the endmembers, the same as in the curves, for light and dark pages."""

    def rules(colours: Sequence[str]) -> str:
        return " ".join(f".c{i} {{ background: {colour}; color: {colour}; }}" for i, colour in enumerate(colours))

    return f"{rules(COLOURS)}\n@media screen and (prefers-color-scheme: dark) {{ {rules(ON_DARK)} }}\n"


def swatch(index: int) -> str:
    """Return a patch in the colour of an endmember; after seven they repeat, dotted, as in the curves."""
    again = " again" if index >= len(COLOURS) else ""
    return f'<span class="swatch c{index % len(COLOURS)}{again}" aria-hidden="true"></span>'


@dataclass(frozen=True)
class Coloured:
    """A cell of a table with the colour of an endmember before its text."""

    text: str
    index: int


@dataclass(frozen=True)
class Number:
    """A right-aligned cell of a table."""

    text: str


Row = list[str | Number | Coloured]
"""Cells of a table, plain text."""


def document(title: str, parts: Sequence[str]) -> str:
    """Return the whole page.

    Args:
        title: plain text.
        parts: pieces of HTML, in order.
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{_colours()}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(parts)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(name: str, title: str, *parts: str) -> str:
    """Return a section with its heading; empty parts are omitted."""
    inside = "\n".join(part for part in parts if part)
    head = f'<h2 id="{name}-title">{escape(title)}</h2>'
    return f'<section id="{name}" aria-labelledby="{name}-title">\n{head}\n{inside}\n</section>'


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph of plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{escape(text)}</p>"


def verdicts(count: str, entries: Sequence[tuple[bool, str]]) -> str:
    """Return a line that counts, and sentences with a mark each: nothing is to be done, or look here."""
    lines = "\n".join(
        f'<li class="{"good" if good else "look"}"><b>{"Good" if good else "Look"}</b>{escape(text)}</li>'
        for good, text in entries
    )
    return f'{paragraph(count)}\n<ul class="verdicts">\n{lines}\n</ul>'


def bullets(texts: Sequence[str]) -> str:
    """Return a list of plain texts, or an empty string without texts."""
    return "<ul>\n" + "\n".join(f"<li>{escape(text)}</li>" for text in texts) + "\n</ul>" if texts else ""


def table(caption: str, heads: Row, rows: Sequence[Row]) -> str:
    """Return a table; the first cell of each row is its head, and a wide table scrolls by itself."""

    def cell(content: str | Number | Coloured, head: str) -> str:
        text = content if isinstance(content, str) else content.text
        kind = ' class="number"' if isinstance(content, Number) else ""
        mark = swatch(content.index) if isinstance(content, Coloured) else ""
        name, scope = ("th", f' scope="{head}"') if head else ("td", "")
        return f"<{name}{scope}{kind}>{mark}{escape(text)}</{name}>"

    top = "<thead><tr>" + "".join(cell(head, "col") for head in heads) + "</tr></thead>\n" if heads else ""
    body = "\n".join(
        "<tr>" + "".join(cell(entry, "" if i else "row") for i, entry in enumerate(row)) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{escape(caption)}">\n<table>\n'
        f"<caption>{escape(caption)}</caption>\n{top}<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def map_figure(
    title: str,
    detail: str,
    picture: tuple[str, int, int],
    alternative: str,
    bar: str = "",
    *,
    ground: str = "",
    colour: int | None = None,
) -> str:
    """Return a map with its title above and its scale bar and colour bar below.

    Args:
        title, detail: plain text above the map.
        picture: data: URI, width, height.
        alternative: the picture in words.
        bar: from `colour_bar`, or empty.
        ground: from `ground_scale`, or empty.
        colour: number of the endmember whose colour stands before the title, or None.
    """
    uri, width, height = picture
    image = f'<img class="map" src="{uri}" width="{width}" height="{height}" alt="{escape(alternative)}">'
    mark = "" if colour is None else swatch(colour)
    return (
        f"<figure>\n<figcaption><strong>{mark}{escape(title)}</strong><small>{escape(detail)}</small></figcaption>\n"
        f'<div class="placed">{image}{ground}</div>\n{bar}</figure>'
    )


def ground_scale(share: float, label: str, north: float | None) -> str:
    """Return a scale bar, and an arrow to the north, for below a map.

    Args:
        share: of the width of the map that the bar covers.
        label: its length in words.
        north: degrees clockwise from the top of the map, or None.
    """
    arrow = ""
    if north is not None:
        turn = f' style="transform: rotate({north:.1f}deg)"' if round(north, 1) else ""
        arrow = (
            f'<span class="north" role="img" aria-label="north is {north:.0f} degrees clockwise from the top">'
            f'<svg viewBox="0 0 12 18"{turn}><path d="M6 0 L11 17 L6 13 L1 17 Z"/></svg>N</span>'
        )
    return (
        f'<div class="ground"><span class="metres" style="width: {100 * share:.2f}%"></span>'
        f'<span class="label">{escape(label)}</span>{arrow}</div>'
    )


def colour_bar(colours: Sequence[str], labels: Sequence[str], unit: str) -> str:
    """Return a colour bar: colours from low to high, labels spread evenly below them, and the unit."""
    ends = "".join(f"<span>{escape(label)}</span>" for label in labels)
    return (
        f'<div class="bar" style="background: linear-gradient(to right, {", ".join(colours)})"></div>\n'
        f'<div class="ends">{ends}</div>\n<div class="unit">{escape(unit)}</div>\n'
    )


def themed_figure(title: str, detail: str, charts: Mapping[str, str], alternative: str) -> str:
    """Return curves, drawn for light and dark and for wide and narrow pages.

    Args:
        title, detail: plain text above the curves.
        charts: data: URIs by the names of `charts.THEMES`.
        alternative: the curves in words.
    """
    # The style shows one of the images: a browser that prints does not choose again among <source> elements.
    images = "\n".join(
        f'<img class="curves {name}" src="{uri}" alt="{escape(alternative)}">' for name, uri in charts.items()
    )
    caption = f"<figcaption><strong>{escape(title)}</strong><small>{escape(detail)}</small></figcaption>"
    return f"<figure>\n{caption}\n{images}\n</figure>"
