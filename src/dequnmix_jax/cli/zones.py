"""`dequnmix zones`: mean fractions and areas of a result inside polygons, as a table."""

import json

from dequnmix_jax.checks import InputError, ending
from dequnmix_jax.cli.options import ZonesOptions
from dequnmix_jax.escaping import shown
from dequnmix_jax.results.in_polygons import write_zones
from dequnmix_jax.training.words import plain


def write_table(options: ZonesOptions) -> None:
    """Write a table of the mean fractions and areas of a result inside polygons."""
    if options.output.suffix.lower() != ".csv":
        raise InputError(
            f"{options.output} {ending(options.output)}; expected .csv. Write "
            f"{options.output.with_suffix('.csv') if options.output.name else 'zones.csv'}."
        )
    rows = write_zones(options.output, options.result, options.polygons, field=options.field, overwrite=options.force)
    if options.json:
        print(json.dumps(plain([row._asdict() for row in rows]), indent=2, allow_nan=False))
        return
    empty = dict.fromkeys(row.polygon for row in rows if not row.pixels)
    if empty:
        print(f"without a valid pixel: {shown(', '.join(empty))}")
    print(options.output)
