"""Numbers of a result in words."""


def area_words(square_metres: float) -> str:
    """Return an area with a unit that suits it.

    >>> area_words(14.3), area_words(52200), area_words(3.1e6)
    ('14.3 m²', '5.22 ha', '3.1 km²')
    """
    if square_metres >= 1e6:
        return f"{square_metres / 1e6:.4g} km²"
    return f"{square_metres / 1e4:.4g} ha" if square_metres >= 1e4 else f"{square_metres:.4g} m²"
