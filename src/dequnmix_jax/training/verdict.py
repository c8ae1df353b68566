"""What a scene says of a stage of training, and how it is said in words."""

import math
from typing import Any

from dequnmix_jax.types import ADEQUATE, NEEDED, Stages, Verdict

"""Standard errors by which a gain must exceed zero."""
"""Misfit of held-out bands, in units of the noise, up to which the linear model holds to the noise. The noise is known
to some per cent, and abundances from half of the bands add about R / B."""


_NAMES = Stages("Trained endmembers", "Trained network", "Prior over neighbours")  # type: ignore[arg-type]


def sentences(found: Stages) -> list[str]:
    """Say of each stage whether it was kept, and why; the arrays must be concrete. Stages not judged are not named."""
    said = [_reason(name, verdict) for name, verdict in zip(_NAMES, found, strict=True)]
    return [text for text in said if text]


def _reason(name: Any, verdict: Verdict) -> str:
    kept = bool(verdict.kept)
    first, second = (float(x) for x in verdict.bands)
    risk, misfit = min(float(x) for x in verdict.risk), float(verdict.misfit)
    if math.isnan(first):
        why = "the noise of the scene is not known, which takes more valid pixels than bands"
        return "" if kept else f"{name}: left out, because {why}."
    if name == _NAMES.prior:
        text = f"{name}: {{}}; by even and odd bands it makes the maps {_change(first)}"
    else:
        text = (
            f"{name}: {{}}; held-out bands are predicted {_change(first)} in pixels of the training and "
            f"{_change(second)} in pixels set aside"
        )
    text += f" (better by {NEEDED:g} is needed)."
    if not kept and first == second == 0:
        return f"{name}: left out; nothing changed."
    if not kept and min(first, second) > NEEDED:
        if misfit > ADEQUATE:
            text += (
                f" But the model leaves {misfit:.3g} times the noise, more than {ADEQUATE:g}: it does not hold here."
            )
        elif risk <= NEEDED:
            text += f" But the risk with all bands falls by {risk:.1f} standard errors only."
    return text.format("kept" if kept else "left out")


def _change(gain: float) -> str:
    return f"{'better' if gain > 0 else 'worse'} by {abs(gain):.1f} standard errors"
