"""The gate: who is inside, who waits, and when it is finished."""

from __future__ import annotations

import threading

from drivers.contract import in_thread
from grafctl.store.driver.gate import Gate


def test_nobody_enters_a_closed_gate_and_the_last_one_out_finishes_it() -> None:
    finished: list[bool] = []
    gate = Gate(lambda: finished.append(True))
    assert gate.enter() and gate.enter()
    gate.close()
    gate.close()
    assert not gate.enter()
    gate.leave()
    assert finished == []
    gate.leave()
    assert finished == [True]
    gate.close()
    assert finished == [True]


def test_alone_waits_until_nobody_is_inside_and_gives_up_at_its_deadline() -> None:
    done: list[str] = []
    gate = Gate(lambda: done.append("finished"))
    gate.enter()
    assert not gate.alone(lambda: done.append("alone"), 0.01)
    waiter = threading.Thread(target=gate.alone, args=(lambda: done.append("alone"), 60))
    waiter.start()
    gate.leave()
    waiter.join()
    assert done == ["alone"]


def test_a_gate_that_is_closed_while_someone_waits_to_be_alone_is_finished_after_that() -> None:
    done: list[str] = []
    gate = Gate(lambda: done.append("finished"))
    gate.enter()

    def wait_and_close() -> None:
        waiter = threading.Thread(target=gate.alone, args=(lambda: done.append("alone"), 60))
        waiter.start()
        while not gate._is_kept:  # the only sign that it waits
            pass
        gate.close()
        gate.leave()
        waiter.join()

    in_thread(wait_and_close)
    assert done == ["alone", "finished"]
