"""`dequnmix compare`: several methods and seeds on one scene, a table and a picture of all maps."""

import json
import sys
from pathlib import Path

from dequnmix_jax.cli.options import CompareOptions
from dequnmix_jax.cli.scene_options import count_endmembers, read_for_unmixing, warn
from dequnmix_jax.comparison import DEFAULT, Comparison, check_ours, compare, methods_of
from dequnmix_jax.escaping import shown
from dequnmix_jax.io.atomic import check_folder, reserved
from dequnmix_jax.report.comparison_table import as_markdown
from dequnmix_jax.results.kept_methods import kept_beside, spent
from dequnmix_jax.results.score import read_reference
from dequnmix_jax.training.words import plain


def compare_methods(options: CompareOptions) -> None:
    """Unmix a scene by several methods, and write tables, a picture and the maps of each."""
    given = [word.strip() for entry in options.methods or () for word in entry.split(",") if word.strip()]
    words = methods_of(DEFAULT if options.methods is None else given)
    check_ours(options.output, options.force)
    check_folder(options.output)
    with reserved(options.output, overwrite=options.force) as outputs:  # before hours of work
        part, keep = outputs.part(options.output), kept_beside(options.output)
        found = _compared(options, words, keep)
        part.mkdir()
        found.put(part)
        outputs.place(spent=spent(keep))
    if kept := found.record["kept"]:
        warn(
            f"note: An earlier start of this command has finished {', '.join(kept)}; "
            f"{'it is' if len(kept) == 1 else 'they are'} kept."
        )
    for word, sentence in found.failed.items():
        warn(f"warning: {word} did not run: {sentence}")
    for note in found.record["notes"]:
        warn(f"note: {note}")
    written = sorted(options.output.iterdir())
    if options.json:
        files = [str(path) for path in written]
        print(json.dumps(plain({"rows": found.rows, "failed": dict(found.failed), "files": files}), indent=2))
        return
    print(shown(as_markdown(found.rows, found.reference_name), lines=True), end="")
    print(options.output)


def _compared(options: CompareOptions, words: list[str], keep: Path) -> Comparison:
    import jax

    truth = None if options.reference is None else read_reference(options.reference)
    scene, record = read_for_unmixing(options.scene, options.endmembers)
    count, counted = count_endmembers(options.endmembers, scene, "--endmembers", options.max_endmembers)

    def progress(word: str, number: int, seconds: float) -> None:
        print(f"{word}: seed {options.seed + number}, {seconds:.3g} CPU s", file=sys.stderr, flush=True)

    keys = [jax.random.key(options.seed + number) for number in range(options.seeds)]
    found = compare(
        scene, count, keys, words, reference=truth, convention=options.convention, on_progress=progress, keep=keep,
        overwrite=options.force,
    )  # fmt: skip
    found.record.update(record | counted | {"first_seed": options.seed})
    return found
