"""The training of most tables: as recommended, with every stage kept, so that they show what training does.

`dq.RECOMMENDED` itself undoes a stage that does not show that it helps (`Training.judged`); what that changes is the
subject of `experiments.defaults.stages`, and the rows "from select_endmembers" of the tables are trained so.
"""

from dataclasses import replace

import dequnmix_jax as dq

EVERY_STAGE = replace(dq.RECOMMENDED[0], judged=False)
EVERY_STAGE_AND_RATES = (EVERY_STAGE, dq.RECOMMENDED[1])
