"""Abundance maps beside the truth, and estimated spectra beside those of the reference: one picture of each per scene.

    python -m experiments.comparison.pictures [--quick] [-o results]

One seed, the same start for all methods. Row 0 of a map is at the top and column 0 at the left; all maps share one
scale from 0 to 1. Endmembers are matched to the reference by their angles. Methods under the cone, which take spectra
at maximum one, are compared with an exact reference as it is given and in their unit, as in
`experiments.shared.side_by_side`; the reference in that unit is then drawn too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import dequnmix_jax as dq
from dequnmix_jax import mixing
from dequnmix_jax.baselines import Method, MethodResult, closed_forms, deeptrans
from dequnmix_jax.datasets import hysu, registry
from dequnmix_jax.endmembers.selection import CONSTRAINTS
from dequnmix_jax.report import plots, style
from dequnmix_jax.scenes.truth import Truth
from experiments.shared import methods as shared_methods
from experiments.shared import results_table, scenes, side_by_side, variability


@dataclass(frozen=True)
class Settings:
    """What is drawn, of which scenes (`of`). `only`: methods whose names begin with one of these."""

    of: tuple[str, ...] = ("samson", "recipe, 30 dB", "hapke_relab", "hysu")
    seed: int = 0
    epochs: int = 100
    transformer: deeptrans.Settings = field(default_factory=deeptrans.Settings)
    crop: int | None = None
    only: tuple[str, ...] = ("",)


QUICK = Settings(of=("varied, 30 dB",), epochs=2, crop=12, only=("VCA + FCLS", "DEQ-Unmix, cone"))


References = tuple[tuple[Truth, bool], ...]
"""Each with whether it is exact."""


class Target(NamedTuple):
    """A reference to compare methods with.

    Attributes:
        label: of its row of maps.
        after: text after the errors against it, "" if there is one reference only.
        reference: its source in words.
        abundances: (H, W, R).
        constraints: methods under these are compared with it; empty: it is shown alone.
    """

    label: str
    after: str
    reference: str
    abundances: jax.Array
    constraints: tuple[str, ...]


class Shown(NamedTuple):
    """A method's result in the order of the reference, with its angles (R,) and its error for each target."""

    name: str
    found: MethodResult
    angles: jax.Array
    errors: tuple[tuple[Target, float], ...]


def methods(settings: Settings) -> list[Method]:
    """Return the methods, from closed forms to ours."""
    every = [
        closed_forms.VCA_FCLS,
        closed_forms.VCA_SCALED,
        deeptrans.deeptrans(settings.transformer),
        shared_methods.equilibrium(dq.Model(constraint=dq.equilibrium.Simplex()), settings.epochs),
        shared_methods.equilibrium(dq.Model(), settings.epochs),
        shared_methods.selected(settings.epochs),
    ]
    return [method for method in every if method.name.startswith(settings.only)]


def targets(name: str, references: References) -> list[Target]:
    """Return the references, an exact one in both units of abundance; for hysu the regions of its targets."""
    if name == "hysu":
        regions = jnp.asarray(hysu.hysu_targets().roi_material, jnp.float32)
        # The sixth material is the surrounding grass.
        maps = jnp.concatenate([regions, 1 - jnp.max(regions, axis=2, keepdims=True)], axis=2)
        return [Target("regions around the\ntargets, no fractions", "", references[0][0].reference, maps, ())]
    listed = []
    for letter, (truth, exact) in zip("abc", references, strict=False):
        letter = letter if len(references) > 1 else ""
        A = jnp.asarray(truth.abundances, jnp.float32)
        label, after = (f"reference {letter}", f" to {letter}") if letter else ("reference", "")
        listed.append(Target(label, after, truth.reference, A, CONSTRAINTS))
        if exact:
            peaks = jnp.max(jnp.asarray(truth.endmembers, jnp.float32), axis=1)
            at_one, _ = mixing.normalise_abundances(A * peaks[None, None])
            label = f"{label}, for\nspectra at\nmaximum one"
            after = f"{after} in its unit"
            listed.append(Target(label, after, f"{truth.reference}; spectra at maximum one", at_one, ("cone",)))
    return listed


def compare(method: Method, inputs: tuple[jax.Array, ...], truth: Truth, held: list[Target]) -> Shown:
    """Run a method on (key, cube, start) and order its result as the first reference."""
    E = jnp.asarray(truth.endmembers, jnp.float32)
    result = (jax.jit(method.estimate) if method.pure else method.estimate)(*inputs)
    constraint = method.constraint_of(result)
    order = dq.metrics.align(result.endmembers, E)
    result = MethodResult(result.abundances[..., order], result.endmembers[order])
    errors = [
        (target, float(dq.metrics.armse(result.abundances, target.abundances)))
        for target in held
        if constraint in target.constraints
    ]
    return Shown(method.name, result, dq.metrics.spectral_angle(result.endmembers, E), tuple(errors))


def wavelengths(name: str) -> np.ndarray | None:
    """Return the wavelengths of a scene in nm, or None if they are unknown."""
    kind = name.partition(", ")[0]
    if kind.startswith("recipe"):
        return variability.bundles(np.random.default_rng(0))[2]
    known = {"samson": "samson_zhu"}.get(kind, kind)
    return registry.load(known, download=False)[0].wavelengths if known in registry.names() else None


def draw_maps(title: Sequence[str], names: Sequence[str], held: list[Target], shown: list[Shown]) -> Any:
    """Draw the abundances: a row for each reference, then for each method; a column for each material."""
    lines = [(target.label, target.abundances) for target in held]
    for entry in shown:
        errors = [f"aRMSE {value:.3f}{target.after}" for target, value in entry.errors]
        lines.append(("\n".join([entry.name, *errors]), entry.found.abundances))
    wide, high = (0.7 * inches for inches in style.panel(lines[0][1].shape))
    figure = style.new_figure(len(names) * (wide + 0.15) + 2.9, len(lines) * (high + 0.12) + 1.3)
    grid = figure.subplots(len(lines), len(names), squeeze=False)
    for number, (row, (label, maps)) in enumerate(zip(grid, lines, strict=True)):
        for r, axes in enumerate(row):
            picture = np.asarray(maps[..., r])
            image = axes.imshow(picture, "viridis", vmin=0, vmax=1, origin="upper", interpolation="nearest")
            plots.pixel_ticks(axes, maps.shape, wide, high)
            axes.tick_params(labelleft=r == 0, labelbottom=number == len(lines) - 1)
        row[0].set_ylabel(label, fontsize=9, rotation=0, ha="right", va="center", multialignment="right")
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(style.wrapped(name, wide, 2), fontsize=9, parse_math=False)
    _entitle(figure, title)
    figure.supxlabel("column", fontsize=9)
    figure.supylabel("row", fontsize=9)
    bar = figure.colorbar(image, ax=grid, shrink=min(1.0, 4.0 / (len(lines) * high)), pad=0.02)
    bar.set_label("abundance (fraction)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def _entitle(figure: Any, lines: Sequence[str]) -> None:
    text = "\n".join(style.wrapped(line, figure.get_figwidth() - 0.4, 3) for line in lines)
    figure.suptitle(text, fontsize=9, parse_math=False)


def draw_spectra(
    title: Sequence[str],
    names: Sequence[str],
    reference: tuple[str, np.ndarray],
    shown: list[Shown],
    nm: np.ndarray | None,
) -> Any:
    """Draw the endmembers: a panel for each material, every spectrum at maximum one, angles in the legend."""
    label_of_reference, true = reference
    count, bands = true.shape
    places = np.arange(bands, dtype=float) if nm is None else np.asarray(nm, float)
    order = np.argsort(places)
    # The closed forms have the same spectra, those of VCA.
    spectra = {("VCA" if entry.name.startswith("VCA") else entry.name): entry for entry in shown}
    columns = min(count, 3)
    lines = -(-count // columns)
    figure = style.new_figure(4.2 * columns, 4.4 * lines + 0.7)
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes in panels[count:]:
        axes.remove()
    for r, (axes, name) in enumerate(zip(panels, names, strict=False)):
        curves = [(label_of_reference, true[r], "black", 2.2)]
        for colour, (method, entry) in zip(style.COLOURS, spectra.items(), strict=False):
            label = f"{method}: {float(entry.angles[r]):.3f} rad"
            curves.append((label, np.asarray(entry.found.endmembers[r], float), colour, 1.2))
        for label, values, colour, width in curves:
            x, y = plots.with_gaps(places[order], values[None, order] / values.max())
            axes.plot(x, y[0], color=colour, linewidth=width, label=label)
        axes.set_title(style.wrapped(name, 3.6, 2), fontsize=10, parse_math=False)
        axes.set_xlabel("band (counted from 0)" if nm is None else "wavelength (nm)", fontsize=9)
        axes.tick_params(labelsize=8, labelbottom=True)  # of panels above others too
        axes.set_ylim(0, None)
        axes.margins(x=0.01)
        axes.grid(color="0.9", linewidth=0.6)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    for axes in panels[:count:columns]:
        axes.set_ylabel("spectrum / its maximum", fontsize=9)
    _entitle(figure, title)
    return figure


def draw(name: str, seed: int, truth: Truth, held: list[Target], shown: list[Shown]) -> dict[str, Any]:
    """Return the two figures of a scene by their names."""
    names = truth.names or tuple(f"material {r + 1}" for r in range(truth.endmembers.shape[0]))
    labels = [each.label if each.constraints else "reference" for each in held]
    whose = [f"{x}: {each.reference}" for x, each in zip(labels, held, strict=True) if each.constraints != ("cone",)]
    title = [f"{name}, seed {seed}", *whose]
    spectra = (labels[0], np.asarray(truth.endmembers))
    return {
        "maps": draw_maps(title, names, held, shown),
        "spectra": draw_spectra(title, names, spectra, shown, wavelengths(name)),
    }


def main(settings: Settings, folder: Path) -> Path:
    """Draw all and write `maps_SCENE.png`, `spectra_SCENE.png`, `pictures.csv` and `pictures.md`."""
    style.require()
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    pictures: list[str] = []
    there, missing = scenes.at_hand(settings.of)
    for name in there:
        drawn = side_by_side.Drawn(name, shared_methods.Settings((name,), seeds=settings.seed + 1, crop=settings.crop))
        references = drawn.references[settings.seed]
        truth, held = references[0][0], targets(name, references)
        inputs = (drawn.keys[settings.seed], drawn.cube(settings.seed), drawn.starts[settings.seed])
        shown = [compare(method, inputs, truth, held) for method in methods(settings)]
        stem = "".join(letter if letter.isalnum() else "_" for letter in name).replace("__", "_")
        for kind, figure in draw(name, settings.seed, truth, held, shown).items():
            style.save(figure, folder / f"{kind}_{stem}.png", overwrite=True)
            pictures.append(f"![{kind}, {name}]({kind}_{stem}.png)")
        for entry in shown:
            angles = " ".join(f"{float(angle):.4f}" for angle in entry.angles)
            for target, armse in entry.errors or [(held[0], float("nan"))]:
                row = {"scene": name, "reference": target.reference, "method": entry.name, "armse": armse}
                rows.append(row | {"msad": float(jnp.mean(entry.angles)), "angle of each": angles})
                print(results_table.line(rows[-1]), flush=True)
        note = f"Seed {settings.seed}. {dq.Model()}; {dq.RECOMMENDED}; {settings}{missing}\n\n" + "\n\n".join(pictures)
        target_file = results_table.write(
            folder, "pictures", rows, "python -m experiments.comparison.pictures", note, kind="One run, one seed."
        )
    return target_file


if __name__ == "__main__":
    results_table.command_line(__doc__, main, Settings(), QUICK)
