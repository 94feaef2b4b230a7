"""Mutants of declared stores: what a plan relies on, that it is done once, and files that are none."""

from __future__ import annotations

from mutants.mutant import Mutant

APPLYING, SAVED = "grafctl/nouns/applying_plans.py", "grafctl/nouns/saved_plans.py"
COMPARING, FOUND = "grafctl/nouns/comparing.py", "grafctl/nouns/found.py"
TEST_SAVED, TEST_PLANS = "tests/nouns/test_saved_plans.py", "tests/nouns/test_plans.py"
TEST_KINDS, TEST_KILLS = "tests/nouns/test_declared_kinds.py", "tests/cli/test_plan.py"

OF_DECLARED = (
    Mutant(
        "a plan that looks at nothing", APPLYING, "    if moved or now.keys()", "    if now.keys()",
        "A plan is done in a store that is not the one that was looked at.", (TEST_SAVED,),
    ),
    Mutant(
        "what appeared counts as made", APPLYING, "    if state == BEGUN or is_new:\n", "    if state != DONE:\n",
        "A plan takes for its own what somebody else made.", (TEST_SAVED,),
    ),
    Mutant(
        "a plan that begins unnoted", APPLYING,
        "    session.control.append(KeepPlan(saved.id, saved.digest, BEGUN))\n", "    pass\n",
        "A plan that was killed cannot go on: its own work refuses it.", (TEST_KILLS,),
    ),
    Mutant(
        "a plan that never ends", APPLYING,
        "    session.control.append(KeepPlan(saved.id, saved.digest, DONE))\n", "    pass\n",
        "A plan makes again what was removed since.", (TEST_SAVED,),
    ),
    Mutant(
        "steps taken blindly", APPLYING, "            _check_step(session, saved, step)\n", "            pass\n",
        "What moves while a plan is done is not seen.", (TEST_SAVED,),
    ),
    Mutant(
        "any store will do", APPLYING, "    if found != identity:\n", "    if not found:\n",
        "A plan is done in a store that it was not made for.", (TEST_SAVED,),
    ),
    Mutant(
        "no epoch in what a plan relies on", FOUND,
        '            "epoch": self.row["epoch"],\n', '            "epoch": 1,\n',
        "A plan is done although the resource was fenced.", (TEST_SAVED,),
    ),
    Mutant(
        "no log in what a plan relies on", "grafctl/nouns/planning.py",
        "        return log.facts() if log else None\n", "        return None\n",
        "A resource is put into a log whose rule was changed.", (TEST_KINDS,),
    ),
    Mutant(
        "edited plans", SAVED, '    if wrong or body["digest"] != digest:\n', "    if wrong:\n",
        "A plan does what nobody saw.", (TEST_SAVED,),
    ),
    Mutant(
        "plans for everybody", SAVED, "os.O_NOFOLLOW, 0o600)", "os.O_NOFOLLOW, 0o644)",
        "Everybody on the machine reads what a store is.", (TEST_SAVED,),
    ),
    Mutant(
        "plans over anything", SAVED, "    _refuse_other(out)\n", "    pass\n",
        "A slip of the fingers replaces the declared file.", (TEST_SAVED,),
    ),
    Mutant(
        "other keys under the same name", SAVED,
        '    if contents(declaration) != body["contents"]:\n', "    if not body:\n",
        "A plan trusts a key that nobody looked at.", (TEST_SAVED,),
    ),
    Mutant(
        "files that lead back", COMPARING,
        "    if refusal is not None:\n        refusal =", "    if different:\n        refusal =",
        "A file that is older than a migration can no longer be applied.", ("tests/nouns/test_declared.py",),
    ),
    Mutant(
        "another definition passes", COMPARING,
        "        if item.refusal is not None:\n            raise item.refusal\n", "        pass\n",
        "Half of a file is made though the store contradicts the rest.", ("tests/nouns/test_declared.py",),
    ),
    Mutant(
        "commands that compare nothing", COMPARING, 'command([*words, "--expect", before.digest()])', "command(words)",
        "The command that a plan names overwrites a placement that moved since.", (TEST_PLANS,),
    ),
    Mutant(
        "stores that were left half-made", "grafctl/nouns/opening.py",
        "    return best is not None and (best.head.tail > 1 or session.audit.exists())\n",
        "    return best is not None\n",
        "A store of which apply was killed never comes up.", ("tests/cli/test_apply.py",),
    ),
)  # fmt: skip
