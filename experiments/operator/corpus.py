"""Make a corpus of generated scenes on disk, on which the learned operator is trained and judged.

    python -m experiments.operator.corpus FOLDER [--seed 0] [--quick] [--parts 1] [--float16]

One command makes training and test scenes: sources "training" and "random" for training, and "test", minerals that
the training never sees. The same command goes on where it was stopped, and with more parts adds to what is there. With
the defaults: 14 sizes, 24 families, 3 sources, 6,048 scenes, 10.3 GB (half of it by --float16), estimated at 6 CPU
minutes, more than half of which compile (16 s a size).
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import jax

from dequnmix_jax.datasets.generator import Plan, SceneShape, write_corpus
from dequnmix_jax.datasets.generator.materials import SOURCES

QUICK = Plan(sizes=(SceneShape(20, 24, 40, 3),), sources=SOURCES, scenes=1)


def main(argv: Sequence[str] | None = None) -> None:
    """Make the corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="one small scene of each family and source")
    parser.add_argument("--parts", type=int, default=1, help="shards of each size, family and source (1)")
    parser.add_argument("--float16", action="store_true", help="half the size; no scene has less noise than 75 dB")
    options = parser.parse_args(argv)
    plan = QUICK if options.quick else Plan(sources=SOURCES)
    plan = replace(plan, parts=options.parts, dtype="float16" if options.float16 else "float32")
    start = time.perf_counter(), time.process_time()
    new, there = write_corpus(options.folder, jax.random.key(options.seed), plan, lambda text: print(text, flush=True))
    size = sum(path.stat().st_size for path in options.folder.glob("*.npz"))
    print(
        f"{new} new shards, {there} were there: {size / 1e6:.1f} MB in {options.folder}, "
        f"{time.perf_counter() - start[0]:.0f} s, {time.process_time() - start[1]:.0f} CPU s"
    )


if __name__ == "__main__":
    main()
