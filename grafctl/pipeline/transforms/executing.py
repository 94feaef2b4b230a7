"""A program as a transform: `exec = ["./normalise", "--strict"]`.

The program reads one JSON line a record, the value, and writes one JSON line for each: an object, a list of objects,
`null` for no output, or `{"refuse": "why"}` alone to refuse the record. It has to write the line out at once (flush),
and nothing else to its standard output.

Promises
- A program that answers each line with one line answers for the right record, whenever it ends. One that ends, does not
  answer in time, or writes what is no answer is started again and asked the same record again; after `ATTEMPTS` the
  stage ends with an error (exit 26), and the record stays unfinished. So its death neither loses nor skips a record.
- A reason is what the program says, cut to `message.REASON_CHARACTERS_MAX` printable characters: it must not hold the
  payload.
- The fingerprint covers the command and the bytes of each file that one of its words names, relative to the folder of
  the pipeline; not what such a file reads or imports, and not a program that is only found by `PATH`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grafctl import clock
from grafctl.errors import ExternalFailed
from grafctl.names import shown
from grafctl.pipeline.message import Message, Output, Refused, decode_value, encode_value, reason_of
from grafctl.pipeline.transforms.child import Broken, Child

ATTEMPTS = 3
PAUSE_S = 0.2  # before the second attempt; twice as long before the next
WAIT_S = 30.0
OUTPUTS_MAX = 10_000


class Exec:
    """A transform that asks a program."""

    def __init__(self, command: Sequence[str], folder: Path, fingerprint: str, *, wait_s: float = WAIT_S) -> None:
        self.fingerprint = fingerprint
        self._name = shown(command[0])
        self._child = Child(command, "exec", folder, wait_s)

    def __call__(self, message: Message) -> Sequence[Output]:
        line, why = encode_value(message.value), ""
        for attempt in range(ATTEMPTS):
            if attempt:
                clock.sleep(PAUSE_S * attempt)
            try:
                return self._outputs(self._child.ask(line), message)
            except Broken as error:
                why = str(error)
        raise ExternalFailed(
            f"The program {self._name} gave no answer to a record in {ATTEMPTS} attempts: {why}.",
            hint="Mend the program and run the same command again; the record is asked again.",
        )

    def _outputs(self, answer: bytes, message: Message) -> Sequence[Output]:
        try:
            value = decode_value(answer)
        except Refused:
            raise self._no_answer("its line is no JSON") from None
        if value is None:
            return ()
        if type(value) is dict and value.keys() == {"refuse"}:
            raise Refused(f"{self._name}: {_reason(value['refuse'])}")
        items: list[Any] = value if type(value) is list else [value]
        if len(items) > OUTPUTS_MAX:
            raise Refused(f"{self._name}: the record becomes more than {OUTPUTS_MAX}.")
        if not all(type(item) is dict for item in items):
            raise self._no_answer("its line is no object, no list of objects and not null")
        return [Output(item, None, message.key, None, message.headers) for item in items]

    def _no_answer(self, why: str) -> Broken:
        self._child.end()
        return Broken(why)

    def close(self) -> None:
        self._child.end()


def _reason(why: Any) -> str:
    if type(why) is not str or not why.strip():
        return "it gave no reason."
    return reason_of(why)
