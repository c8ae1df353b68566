"""The verdicts on the stages of training, as sentences."""

import math
from typing import Any

from dequnmix_jax.types import ADEQUATE, NEEDED, Stages, Verdict

_NAMES = Stages("Trained endmembers", "Trained network", "Prior over neighbours")  # type: ignore[arg-type]


def sentences(stages: Stages) -> list[str]:
    """Return a sentence for each judged stage: whether it was kept, and why. The arrays must be concrete."""
    texts = [_reason(name, verdict) for name, verdict in zip(_NAMES, stages, strict=True)]
    return [text for text in texts if text]


def _reason(name: Any, verdict: Verdict) -> str:
    kept = bool(verdict.kept)
    first, second = (float(x) for x in verdict.bands)
    risk, misfit = min(float(x) for x in verdict.risk), float(verdict.misfit)
    if math.isnan(first):
        reason = "the noise of the scene cannot be estimated without more valid pixels than bands"
        return "" if kept else f"{name}: left out, because {reason}."
    if math.isnan(second):
        return f"{name}: left out, because the scene is too small to hold out two blocks of pixels."
    if name == _NAMES.prior:
        text = f"{name}: {{}}; by even and odd bands it makes the maps {_change(first)}"
    else:
        text = (
            f"{name}: {{}}; held-out bands are predicted {_change(first)} in pixels of the training and "
            f"{_change(second)} in held-out pixels"
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
            change = "falls by {:.1f} standard errors only" if risk > 0 else "rises by {:.1f} standard errors"
            text += f" But the risk with all bands {change.format(abs(risk))}."
        elif verdict.material < -NEEDED:
            text += f" But one material's own pixels are fitted {_change(float(verdict.material))}."
    return text.format("kept" if kept else "left out")


def _change(gain: float) -> str:
    return f"{'better' if gain > 0 else 'worse'} by {abs(gain):.1f} standard errors"
