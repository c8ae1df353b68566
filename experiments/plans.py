"""The training plan of most tables: the recommended one with every stage kept, to show the effect of training.

`dq.RECOMMENDED` itself undoes a stage that does not demonstrably help (`Training.judged`);
`experiments.defaults.stages` measures the difference, and the rows "from select_endmembers" of the tables use it.
"""

from dataclasses import replace

import dequnmix_jax as dq

EVERY_STAGE = replace(dq.RECOMMENDED[0], judged=False)
EVERY_STAGE_AND_RATES = (EVERY_STAGE, dq.RECOMMENDED[1])
