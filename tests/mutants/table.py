"""The errors that the tests must catch: each is one piece of the product's text replaced by another.

Promises
- Each old text occurs exactly once in its file, so a mutant cannot come to mean nothing (`test_mutants.py`).
- A mutant is caught by a test that fails, not by a file that no longer imports.
"""

from __future__ import annotations

from mutants.of_chains import OF_CHAINS
from mutants.of_declared import OF_DECLARED
from mutants.of_edge_ends import OF_EDGE_ENDS
from mutants.of_moving import OF_MOVING
from mutants.of_pipelines import OF_PIPELINES
from mutants.of_segments import OF_SEGMENTS
from mutants.of_steps import OF_STEPS
from mutants.of_switched_stages import OF_SWITCHED_STAGES
from mutants.of_switches import OF_SWITCHES
from mutants.of_switching import OF_SWITCHING
from mutants.of_table_switches import OF_TABLE_SWITCHES
from mutants.of_tables import OF_TABLES
from mutants.of_the_log import OF_THE_LOG
from mutants.of_the_store import OF_THE_STORE
from mutants.of_waves import OF_WAVES

MUTANTS = (
    *OF_THE_LOG,
    *OF_THE_STORE,
    *OF_PIPELINES,
    *OF_DECLARED,
    *OF_STEPS,
    *OF_SEGMENTS,
    *OF_SWITCHES,
    *OF_SWITCHING,
    *OF_SWITCHED_STAGES,
    *OF_WAVES,
    *OF_EDGE_ENDS,
    *OF_CHAINS,
    *OF_TABLE_SWITCHES,
    *OF_TABLES,
    *OF_MOVING,
)
