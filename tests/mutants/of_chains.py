"""Mutants of stages that edges link: what is dropped, what is finished, and what the checkpoint says."""

from __future__ import annotations

from mutants.mutant import Mutant

ROWS, STAGES = "grafctl/store/resources/chains.py", "grafctl/pipeline/stages"
HEAD, LINKING = f"{STAGES}/beginning_edges.py", f"{STAGES}/linking.py"
BETWEEN, LAST = f"{STAGES}/between_edges.py", f"{STAGES}/behind_edges.py"
STORM, LINKS = ("tests/pipeline/test_link_storm.py",), ("tests/pipeline/test_links.py",)
TEST_ROWS = ("tests/resources/test_chains.py",)

OF_CHAINS = (
    Mutant(
        "a checkpoint before the rows are committed", LAST,
        "        left = [record for record in self._records if record.offset in self._open]\n",
        "        left = [record for record in self._records if record.offset in self._open]\n"
        "        opened, self._open = self._open, set()\n        self._advance()\n        self._write()\n"
        "        self._open = opened\n",
        "A sink that dies in between leaves records that nobody gives it again.", LINKS,
    ),
    Mutant(
        "read again from behind the checkpoint", HEAD,
        "[left] if left else []", "[left[1:]] if row.next and left[1:] else [left] if left and not row.next else []",
        "The first record that is not committed is left out.", STORM,
    ),
    Mutant(
        "an origin lost", BETWEEN,
        "came._replace(payload=item.payload", "came._replace(origin=0, payload=item.payload",
        "The checkpoint never moves, or says what is not so.", STORM,
    ),
    Mutant(
        "one of several records taken for all of its origin", LAST,
        "parcel.run == row.run and parcel.is_last:", "parcel.run == row.run:",
        "The checkpoint goes beyond an order of which one line is there.", STORM,
    ),
    Mutant(
        "the first of several records called the last", BETWEEN,
        "found[-1] = found[-1]._replace(is_last=True)", "found[0] = found[0]._replace(is_last=True)",
        "The same, said by the stage that made them.", STORM,
    ),
    Mutant(
        "a loss that the first stage does not see", HEAD,
        " or not found.is_whole:", ":",
        "What was on an edge in the middle of a chain is never read again.", STORM,
    ),
    Mutant(
        "finished before it was pushed", BETWEEN,
        "        moved = self._out.push()\n        if not self._out.is_waiting:\n            self._in",
        "        self._in.finish(self._until)\n        moved = self._out.push()\n"
        "        if not self._out.is_waiting:\n            self._in",
        "A stage that dies before a full edge takes a batch with it.", LINKS,
    ),
    Mutant(
        "a record of a group finished when it was pushed", BETWEEN,
        "if origin < until]\n        if not done", "]\n        if not done",
        "It is acknowledged, and lost with the edge.", STORM,
    ),
    Mutant(
        "nothing said of a record of which nothing comes", BETWEEN,
        "        return found or ([mark_of(came)] if came.is_last else [])\n", "        return found\n",
        "A record that is filtered out is never finished.", STORM,
    ),
    Mutant(
        "parcels of one run in the segment of another", LINKING,
        "            self.generation = self._writer.generation\n", "            pass\n",
        "A stage takes every parcel for one of another generation.", STORM,
    ),
    Mutant(
        "a checkpoint of a run that is over", ROWS,
        "        if there is None or there.run != self.run:", "        if there is None:",
        "A number of one run is taken for that of another.", TEST_ROWS,
    ),
    Mutant(
        "a checkpoint that goes back", ROWS,
        "        if self.next > there.next:", "        if self.next != there.next:",
        "What is committed is read again for ever.", TEST_ROWS,
    ),
    Mutant(
        "a run of a group that goes on counting", BETWEEN,
        "self._head.begin(anew=True)", "self._head.begin(anew=False)",
        "The checkpoint of the run before finishes records of this one.", STORM,
    ),
    Mutant(
        "another file read from the old checkpoint", HEAD,
        "        return row.next == 0 or self._digest.hex() == row.digest\n", "        return True\n",
        "The first records of a new file are left out in silence.", LINKS,
    ),
    Mutant(
        "a lease that nobody keeps while a batch is worked on", BETWEEN,
        "            self._hold()\n            try:\n", "            try:\n",
        "A batch that takes longer than a term is begun again for ever.", LINKS,
    ),
    Mutant(
        "the last stage forgets what the one before it finished", "grafctl/pipeline/stages/behind_edges.py",
        "            self._take_up()\n", "            self._is_taken_up = True\n",
        "Where it dies before the checkpoint, the first stage waits for ever for what is done.", STORM,
    ),
)  # fmt: skip
