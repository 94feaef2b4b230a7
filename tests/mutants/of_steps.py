"""Mutants of logs that several resources share, and of the stages that rely on one entry for what they do."""

from __future__ import annotations

from mutants.mutant import Mutant

SCOPE, SEVERAL = "grafctl/store/replica/scope.py", "grafctl/store/resources/several.py"
CARRIED, BURYING = "grafctl/store/resources/carried.py", "grafctl/store/resources/burying.py"
STEPPING, CATCH_UP = "grafctl/store/operations/stepping.py", "grafctl/store/operations/catch_up.py"
TRANSFORMING, INGESTING, SINKING, PUBLISHING, READING = (
    f"grafctl/pipeline/stages/{name}.py" for name in ("transforming", "ingesting", "sinking", "publishing", "reading")
)
SHARED = ("tests/store/test_shared_log.py",)
RUNNING = ("tests/pipeline/test_running.py", "tests/pipeline/test_running_errors.py")

OF_STEPS = (
    # --- several resources in one log
    Mutant(
        "rows of another resource read", SCOPE,
        "        return self._own + row[_CUT:] if row.startswith(_SPOKEN) else row\n", "        return row\n",
        "A resource takes the records and leases of another for its own.", SHARED,
    ),
    Mutant(
        "rows of another resource written", SCOPE,
        "    return [(own + row[_CUT:] if row.startswith(_SPOKEN) else row, body) for row, body in writes]\n",
        "    return list(writes)\n",
        "A change of one resource overwrites another.", SHARED,
    ),
    Mutant(
        "entry that does not say of which resource it is", SCOPE,
        "    return meta if number == FIRST else", "    return meta if number else",
        "A backup applies it to the first resource of the log.", SHARED,
    ),
    Mutant(
        "block of another resource applied", SEVERAL,
        '            block = entry.block[change["at"] : change["at"] + change["bytes"]]\n',
        '            block = entry.block[: change["bytes"]]\n',
        "The index of ids of one resource holds those of another.", SHARED,
    ),
    Mutant(
        "block of another resource delivered", "grafctl/store/reading.py",
        "        return slice(None) if self.start is None else slice(self.start, self.start + self.bytes)\n",
        "        return slice(None) if self.start is None else slice(0, self.bytes)\n",
        "A consumer gets the records of another resource.", SHARED,
    ),
    Mutant(
        "change that does not see the one before it", SEVERAL,
        "            if any(number == later for later, _ in self._parts[place + 1 :]):\n",
        "            if not change:\n",
        "Two changes of one resource give out the same offsets.", SHARED,
    ),
    Mutant(
        "number of another name taken", CARRIED, '    if row["name"] != name:\n', "    if not row:\n",
        "After a loss that an operator accepted, two names are one resource.", SHARED,
    ),
    Mutant(
        "lost resource open to all it was made for", CARRIED,
        '        row = self.row | {"allow": [], "deny": []} if is_lost else self.row\n',
        "        row = self.row if is_lost else self.row\n",
        "What was forbidden since a resource was created is allowed after its log was lost.", SHARED,
    ),
    Mutant(
        "only the named resource proven", CATCH_UP,
        "        for number in numbers(ours.replica.state):", "        for number in (log.number,):",
        "A replica votes for resources whose copy nobody has compared.", SHARED,
    ),
    Mutant(
        "what was finished is finished again", "grafctl/store/resources/group.py",
        "        if self.all_held:\n", "        if self.all_held is None:\n",
        "Who lost a lease publishes once more what another has finished.", SHARED,
    ),
    # --- dead letters at once
    Mutant(
        "buried by who does not hold it", BURYING,
        '        held = union(Leases(state, group["lineage"]).held_by(self.caller.group, self.token), [])\n',
        "        held = from_offsets([offset for offset, _ in self.letters])\n",
        "A record that another works on becomes a dead letter.", SHARED,
    ),
    Mutant(
        "buried and still leased", BURYING, "    leases.take_out(lineage, ranges)\n", "",
        "A dead letter comes again when the lease of who buried it ends.", SHARED,
    ),
    # --- steps and stages
    Mutant(
        "input finished before the other log", STEPPING,
        "                self._left[log] = [*self._left.pop(log, []), place]\n",
        "                self._left[log] = [*self._left.get(log, []), place]\n",
        "Who dies in between has finished records of which nothing came.", SHARED,
    ),
    Mutant(
        "effects not recorded", TRANSFORMING,
        "        if effects and stage.effects is not None:", "        if not effects and stage.effects is not None:",
        "Another definition of the stage passes for a replay.", RUNNING,
    ),
    Mutant(
        "id without its stage", PUBLISHING,
        '    text = f"{stage}:{source}#{number}" if number else f"{stage}:{source}"\n',
        '    text = f"{source}#{number}" if number else source\n',
        "Two stages that write to one resource take each other's records for their own.", RUNNING,
    ),
    Mutant(
        "id without its number", PUBLISHING,
        '    text = f"{stage}:{source}#{number}" if number else f"{stage}:{source}"\n',
        '    text = f"{stage}:{source}"\n', "Of several records that come of one, the second is refused.", RUNNING,
    ),
    Mutant(
        "no gate before the source", INGESTING, "        pass_gates(place, declared, self._resources())\n", "",
        "A source is read where nothing of it may be published.", RUNNING,
    ),
    Mutant(
        "rows finished that were refused", SINKING,
        "            step(self.place.session, self._input.changes(done, aside))\n",
        "            step(self.place.session, self._input.changes([record.offset for record in records], []))\n",
        "A record of which no row came is dropped in silence.", RUNNING,
    ),
    Mutant(
        "more than an entry holds", TRANSFORMING,
        "        if size > RECORD_BYTES_MAX:\n", "        if size < 0:\n",
        "One record stops the stage for ever.", RUNNING,
    ),
    Mutant(
        "lease of what was put aside kept", READING,
        "            found.append(Change(self.resource, Bury(caller, letters, self.lease)))\n", "            pass\n",
        "A record that is refused comes again for ever, and nobody is told.", RUNNING,
    ),
)  # fmt: skip
