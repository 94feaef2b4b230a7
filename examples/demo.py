"""A provider migration on real orders: `make demo`, or `python examples/demo.py --orders 15000`.

150,000 TPC-H orders are published from AWS and GCP by two processes at once and worked on by two others, while Azure
is added, catches up, is proven, and takes over. Operators' steps are the real `grafctl` commands, and the workers use
the Python API. At the end everything is read back and compared with what the generator made: every order at its offset
in all three domains, finished once, and the totals of the generator. The account at the end says what happened.

The exit code is 0 only when all of that was true. Ctrl-C ends every process and removes everything (unless `--keep`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

import tpch
from demo_stage import OLD, QUEUE, Demo, Failed, Publisher, Workers, require

import grafctl

NEW = "azure-workers"
AWS, GCP, AZURE = "aws/us-east-1/us-east-1a", "gcp/us-central1", "azure/eastus"
ORDERS_PER_SCALE = 1_500_000
SHARES = (0.35, 0.7)  # of the orders are published before azure is in the locator, and before the workers shift
PEEK_RECORDS = 5_000


# --- the acts


def make_orders(demo: Demo) -> list[Path]:
    """Writes the orders to two files, one for each publisher, and remembers what is in them."""
    parts = [demo.directory / name for name in ("aws.jsonl", "gcp.jsonl")]
    with demo.step("make the orders (TPC-H, tpchgen-cli)") as outcome:
        with parts[0].open("wb") as one, parts[1].open("wb") as other:
            for number, (key, text) in enumerate(tpch.keyed_orders(demo.scale)):
                name = f"order-{key}"
                line = json.dumps({"id": name, "payload": text.decode()}, separators=(",", ":"))
                (other if number % 2 else one).write(line.encode() + b"\n")
                demo.orders[number % 2].append(digest(name, text))
        size = sum(part.stat().st_size for part in parts)
        outcome.append(f"{sum(map(len, demo.orders)):,} orders with their lines, {size / 1e6:.0f} MB")
        demo.say(f"  {outcome[0]}")
    return parts


def digest(name: str, payload: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\0" + payload).digest()[:16]


def set_up(demo: Demo) -> None:
    with demo.step("a store in AWS and GCP") as outcome:
        demo.run("init", "--domain", AWS, "--domain", GCP, "--json")
        replicas = ("--replica", f"orders-aws={AWS}", "--replica", f"orders-gcp={GCP}")
        placement = ("--allow", "aws", "--allow", "gcp", "--json")
        demo.run("queue", "create", QUEUE, "--schema", "tpch-order.v1", *replicas, *placement)
        demo.run("consumer", "create", QUEUE, OLD, "--semantics", "effectively-once", *placement)
        outcome.append("2 domains, 1 queue, 1 group")


def add_azure(demo: Demo) -> None:
    with demo.step("azure is added, while orders are published and worked on") as outcome:
        demo.run("poll", QUEUE, "--group", OLD, "-d", AZURE, expect=11)
        demo.run("domain", "add", AZURE, "--json")
        demo.run("poll", QUEUE, "--group", OLD, "-d", AZURE, expect=11)
        add = ("--add", f"orders-azure={AZURE}")
        demo.run("locator", "set", QUEUE, "--generation", "1", *add, expect=13)
        demo.run("locator", "set", QUEUE, "--generation", "2", *add, expect=12)
        demo.run("authority", "keygen", "scheduler-a", "--json")
        demo.run("authority", "add", "scheduler-a", "--public-key", "scheduler-a.pub", "--json")
        signed = ("--authority", "scheduler-a", "--key-file", "scheduler-a.key", "--json")
        demo.run("health", "observe", AZURE, "healthy", *signed)
        done = demo.run("locator", "set", QUEUE, "--generation", "2", *add, "--json")
        outcome.append(f"generation {done['after']['generation']}, azure is catching up and counts for nothing yet")


def shift(demo: Demo, old: Workers) -> Workers:
    """Catches up, proves, shifts the group and exchanges the workers; returns the new ones."""
    with demo.step("azure catches up and is proven, while orders are published") as outcome:
        to = ("consumer", "shift", QUEUE, OLD, "--as", NEW, "--allow", AZURE)
        demo.run(*to, "--proof", "none", expect=19)
        proof = demo.run("catch-up", QUEUE, "-d", AZURE, "--json")
        require(proof["match"] and proof["promoted"], "the proof does not match")
        (demo.directory / "proof.json").write_text(json.dumps(proof))
        outcome.append(f"{proof['count']:,} orders copied, read back and equal; azure votes ({proof['proof']})")
        demo.say(f"  {outcome[0]}")
    with demo.step("the work moves to azure") as outcome:
        done = demo.run(*to, "--proof", "@proof.json", "--json")
        require(done["original"] == {"unchanged": True}, "the shift changed the old group")
        demo.run("poll", QUEUE, "--group", OLD, "-d", AZURE, expect=11)
        new = Workers(demo, NEW, (AZURE, AZURE))
        counts = old.stop()
        acked, back = (sum(count[name] for count in counts) for name in ("acked", "given_back"))
        outcome.append(f"the workers in AWS and GCP finished {acked:,} and gave {back:,} back")
        demo.say(f"  {outcome[0]}")
    return new


def publish_again(demo: Demo, part: Path) -> None:
    with demo.step("a publisher that sends everything again adds nothing") as outcome:
        with part.open("rb") as lines:
            first = [next(lines) for _ in range(min(1000, len(demo.orders[0])))]
        done = demo.run("publish", QUEUE, "-", "--input", "jsonl", "-d", AWS, "-o", "jsonl", input=b"".join(first))
        require(done["replayed"] is True, "an order was stored twice")
        demo.run("publish", QUEUE, "another order", "--id", json.loads(first[0])["id"], "-d", GCP, expect=16)
        outcome.append(f"{len(first):,} orders answered with the offsets they had; another payload for an id refused")


def check(demo: Demo, publishers: list[Publisher], ledgers: list[Path]) -> list[str]:
    """Compares everything with what the generator made; returns the figures."""
    count, price = tpch.totals(demo.scale)
    with demo.step("everything is read back and compared") as outcome:
        proof = demo.run("catch-up", QUEUE, "-d", AZURE, "--json")
        require(proof["count"] == count and proof["match"], "the last proof is not over every order")
        shown = demo.run("placement", "show", QUEUE, "--json")
        allow = ("--allow", "aws", "--allow", "gcp", "--allow", "azure", "--expect", shown["digest"])
        demo.run("placement", "set", QUEUE, *allow, "--json")
        at: dict[int, bytes] = {}
        for publisher, orders in zip(publishers, demo.orders, strict=True):
            at.update(zip(publisher.offsets(), orders, strict=True))
        require(sorted(at) == list(range(count)), "the offsets that publishers were told are not one for each order")
        for domain in (AWS, GCP, AZURE):
            found = read_back(demo.store, domain, at)
            require(found == tpch.Totals(count, price), f"{domain} holds {found}")
            demo.say(f"  {domain}: every order at its offset, {count:,} orders, total {euros(price)}")
        entries, booked, cents = read_ledgers(ledgers)
        require((entries, booked, cents) == (count, count, price), f"the ledgers hold {entries, booked, cents}")
        demo.say(f"  ledgers of the workers: {booked:,} orders, each once, total {euros(cents)}")
        with grafctl.open(demo.store) as store:
            group = store.consumers.show(QUEUE, NEW).body
            require(group["ack_floor"] == count, f"only {group['ack_floor']:,} orders are finished")
            findings = list(store.verify())
        require(not findings, f"verify found {findings}")
        outcome.append("3 domains, 4 ledgers and the generator agree; verify found nothing")
    return [
        f"orders made by the generator       {count:>9,}   {euros(price):>22}",
        *(f"orders in {name:<24} {count:>9,}   {euros(price):>22}" for name in (AWS, GCP, AZURE)),
        f"orders finished, each once         {booked:>9,}   {euros(cents):>22}",
    ]


def read_back(path: Path, domain: str, at: dict[int, bytes]) -> tpch.Totals:
    """Reads a whole queue in one domain; requires each order to be where its publisher was told it is."""
    count = cents = 0
    with grafctl.open(path) as store:
        while count < len(at):
            records = store.peek(QUEUE, domain=domain, offset=count, max=PEEK_RECORDS).body["records"]
            require(bool(records), f"{domain} ends at offset {count}")
            for record in records:
                require(record.offset == count, f"{domain} has offset {record.offset} where {count} should be")
                is_same = digest(record.id, record.payload) == at[count]
                require(is_same, f"{domain} has another order at offset {count}")
                cents += tpch.cents(json.loads(record.payload)["total_price"])
                count += 1
    return tpch.Totals(count, cents)


def read_ledgers(ledgers: list[Path]) -> tuple[int, int, int]:
    """Returns the number of entries in all ledgers, of different orders, and their sum."""
    rows = [tuple(map(int, line.split())) for ledger in ledgers for line in ledger.read_text().splitlines()]
    once = {key: price for _, key, price in rows}
    return len(rows), len(once), sum(once.values())


def euros(cents: int) -> str:
    return f"{cents // 100:,}.{cents % 100:02}"


def account(demo: Demo, figures: list[str]) -> None:
    """Prints what happened."""
    demo.say("\n\nWhat happened\n")
    for number, step in enumerate(demo.steps, start=1):
        demo.say(f"  {number}  {step.seconds:5.1f} s  {step.title}\n{'':14}{step.outcome}")
    demo.say("\nRefused on the way\n")
    for code, command, said in demo.refusals:
        demo.say(f"  {code}  {command}\n      {said}")
    demo.say("\nFigures\n")
    for line in figures:
        demo.say(f"  {line}")
    demo.say(f"\nAll of it agrees. {time.monotonic() - demo.began_s:.0f} seconds.")


def play(demo: Demo) -> None:
    """Runs the acts; raises `Failed` where anything is not as it should be."""
    parts = make_orders(demo)
    set_up(demo)
    total = sum(map(len, demo.orders))
    with demo.step("two processes publish, two work") as outcome:
        publishers = [Publisher(demo, domain, part) for domain, part in zip((AWS, GCP), parts, strict=True)]
        old = Workers(demo, OLD, (AWS, GCP))
        set_limit(publishers, SHARES[0])
        demo.wait(lambda published, finished: published >= SHARES[0] * total * 0.7 and finished > 0, publishers)
        outcome.append("the queue is in use when the migration begins")
    add_azure(demo)
    set_limit(publishers, SHARES[1])
    new = shift(demo, old)
    with demo.step("the rest is published, and azure finishes it") as outcome:
        began_s = time.monotonic()
        set_limit(publishers, 1.0)
        demo.wait(lambda published, finished: finished == total, publishers)
        for publisher in publishers:
            publisher.feeder.join()
            require(publisher.process.wait() == 0, f"the publisher in {publisher.domain} did not end well")
        acked = sum(report["acked"] for report in new.stop())
        outcome.append(f"azure finished {acked:,} orders, {acked / (time.monotonic() - began_s):,.0f} a second")
    publish_again(demo, parts[0])
    account(demo, check(demo, publishers, old.ledgers + new.ledgers))


def set_limit(publishers: list[Publisher], share: float) -> None:
    for publisher in publishers:
        publisher.limit = share


def on_sigterm(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--orders", type=int, default=150_000, help="about so many orders (150,000)")
    size.add_argument("--scale", type=float, help="TPC-H scale factor instead; 0.1 is 150,000 orders")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work in this new directory and leave it there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, on_sigterm)
    if options.keep:
        options.keep.mkdir(parents=True)
    directory = options.keep or Path(tempfile.mkdtemp(prefix="grafctl-demo-"))
    demo = Demo(directory.absolute(), options.scale or options.orders / ORDERS_PER_SCALE)
    try:
        play(demo)
        return 0
    except KeyboardInterrupt:
        demo.say("\nInterrupted.")
        return 130
    except Failed as failure:
        demo.say(f"\nFAILED: {failure}.")
        return 1
    finally:
        demo.end_children()
        if options.keep:
            demo.say(f"Everything is kept in {options.keep}.")
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
