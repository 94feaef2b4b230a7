"""What the objects of a store do, one call at a time, in a few lines each; nothing here is shared with the product.

delivery    one record in one lineage: finalised once, leased to one at a time, fenced by the lease's token
epoch       a fence epoch: never goes back, and who names a lower one is refused
generation  a locator: exactly one more than before, or the very same request again
placement   a compare-and-set by digest
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from histories.checker import Model, State
from histories.recorder import Operation


def _delivery(state: Any, item: Operation) -> Iterator[State]:
    """The state is (token of the live lease or 0, newest token ever, whether final).

    A lease may end at any time without anybody's doing, so losing it needs no call; only a call that names its token
    and is accepted shows that it was alive.
    """
    holder, newest, is_final = state
    token = item.args.get("token")
    match item.name:
        case "lease" if token > newest and not is_final:
            yield (token, token, False)
        case "ack":
            if not is_final and token in (None, holder) and item.result in (None, "first"):
                yield (0, newest, True)
            if is_final and item.result in (None, "done"):
                yield state
        case "nack":
            if not is_final and token in (None, holder) and item.result in (None, "ok"):
                yield (0, newest, False)
            if item.result in (None, "nothing"):
                yield state


def _epoch(state: Any, item: Operation) -> Iterator[State]:
    asked = item.args["epoch"]
    if item.result == "fenced":
        if asked < state:
            yield state
    elif item.name == "pass":
        if asked >= state:
            yield state
    elif asked >= state and item.result in (None, state):  # a fence answers with the epoch before it
        yield asked


def _generation(state: Any, item: Operation) -> Iterator[State]:
    generation, last, replicas = state
    add, remove = frozenset(item.args["add"]), frozenset(item.args["remove"])
    request = (item.args["to"], add, remove)
    is_next = item.args["to"] == generation + 1 and not add & replicas
    if item.result in (None, "changed") and is_next:
        left = {name for name in replicas | add if name.partition("=")[0] not in remove}
        yield (generation + 1, request, frozenset(left))
    if item.result in (None, "same", "changed") and request == last:  # of two at once, both may say that they did it
        yield state
    if item.result == "refused" and request != last:
        yield state


def _placement(state: Any, item: Operation) -> Iterator[State]:
    """The state is the digest in force; None until an answer tells what it is."""
    expect, new = item.args["expect"], item.args["new"]
    if item.result in (None, "changed") and state in (None, expect):
        yield new
    if item.result in (None, "same") and state in (None, new):
        yield new
    if item.result in (None, "conflict") and (state is None or state not in (expect, new)):
        yield state


MODELS = {
    "delivery": Model(lambda key: (0, 0, False), _delivery),
    "epoch": Model(lambda key: 1, _epoch),
    "generation": Model(lambda key: (1, None, frozenset()), _generation),
    "placement": Model(lambda key: None, _placement),
}
