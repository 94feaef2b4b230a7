"""The suite that every driver passes: one class, one test a promise of `grafctl/store/driver/contract.py`, no opt-outs.

A subclass gives a `driver` fixture, and `raw_rows` and `raw_put`, which look at the bytes without the driver, so that a
bug of the driver cannot hide itself. The suite closes every environment before it looks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from grafctl.errors import Damaged, Unreachable
from grafctl.store.driver.contract import KEY_BYTES_MAX, VALUE_BYTES_MAX, Driver, Environment, Identity

IDENTITY = Identity(store="st_suite", domain="aws/us-east-1/us-east-1a", incarnation="inc_first")
EVERYTHING = (b"", b"\xff" * (KEY_BYTES_MAX + 1))


class Stop(Exception):
    """Raised in a block on purpose."""


class DriverContract:
    """The promises, in the order of the contract."""

    @pytest.fixture
    def driver(self) -> Driver:
        raise NotImplementedError

    def raw_rows(self, driver: Driver, path: Path) -> dict[bytes, bytes]:
        raise NotImplementedError

    def raw_put(self, driver: Driver, path: Path, key: bytes, value: bytes) -> None:
        raise NotImplementedError

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "domain"

    @pytest.fixture
    def env(self, driver: Driver, path: Path) -> Iterator[Environment]:
        driver.create(path, IDENTITY)
        environment = driver.open(path, IDENTITY)
        yield environment
        environment.close()

    # --- atomic and durable ---

    def test_a_new_environment_is_empty(self, driver: Driver, path: Path, env: Environment) -> None:
        with env.read() as view:
            assert list(view.scan(*EVERYTHING)) == []
            assert list(view.scan(*EVERYTHING, reverse=True)) == []
        env.close()
        assert self.raw_rows(driver, path) == {}

    def test_what_a_block_put_is_there_after_it(self, driver: Driver, path: Path, env: Environment) -> None:
        with env.write(wait_s=1) as batch:
            batch.put(b"a", b"1")
            batch.put(b"b", b"")
        env.close()
        assert self.raw_rows(driver, path) == {b"a": b"1", b"b": b""}

    def test_what_is_there_is_found(self, driver: Driver, path: Path) -> None:
        driver.create(path, IDENTITY)
        self.raw_put(driver, path, b"k", b"raw")
        environment = driver.open(path, IDENTITY)
        with environment.read() as view:
            assert view.get(b"k") == b"raw"
            assert view.get(b"j") is None
        environment.close()

    @pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
    def test_a_block_that_raises_leaves_nothing(
        self, driver: Driver, path: Path, env: Environment, error: type[BaseException]
    ) -> None:
        put(env, b"a", b"1")
        with pytest.raises(error), env.write(wait_s=1) as batch:
            batch.put(b"a", b"2")
            batch.put(b"b", b"2")
            batch.delete(b"a")
            raise error
        env.close()
        assert self.raw_rows(driver, path) == {b"a": b"1"}

    def test_put_replaces_and_delete_says_what_was_there(self, driver: Driver, path: Path, env: Environment) -> None:
        put(env, b"a", b"1")
        with env.write(wait_s=1) as batch:
            batch.put(b"a", b"two")
            assert batch.get(b"a") == b"two"
            assert batch.delete(b"a")
            assert not batch.delete(b"a")
            assert batch.get(b"a") is None
            batch.put(b"c", b"3")
        env.close()
        assert self.raw_rows(driver, path) == {b"c": b"3"}

    def test_a_block_without_a_change_changes_nothing(self, driver: Driver, path: Path, env: Environment) -> None:
        put(env, b"a", b"1")
        for _ in range(3):
            with env.write(wait_s=1) as batch:
                assert not batch.delete(b"none")
        put(env, b"b", b"2")
        env.close()
        assert self.raw_rows(driver, path) == {b"a": b"1", b"b": b"2"}

    @pytest.mark.parametrize(("key", "size"), [(b"\0", 0), (b"k" * KEY_BYTES_MAX, 1), (b"\xff", 3 << 20)])
    def test_keys_and_values_of_every_length(self, env: Environment, key: bytes, size: int) -> None:
        put(env, key, b"v" * size)
        with env.read() as view:
            assert view.get(key) == b"v" * size

    def test_sizes_out_of_bounds_are_the_programmers_error(self, env: Environment) -> None:
        for key, size in ((b"", 1), (b"k" * (KEY_BYTES_MAX + 1), 1), (b"k", VALUE_BYTES_MAX + 1)):
            with pytest.raises(AssertionError), env.write(wait_s=1) as batch:
                batch.put(key, bytes(size))

    @pytest.mark.parametrize("size", [None, 0, 1, 5, 6, 100])
    def test_get_returns_the_first_bytes(self, env: Environment, size: int | None) -> None:
        put(env, b"k", b"abcde")
        with env.read() as view:
            assert view.get(b"k", size) == b"abcde"[:size]
            assert view.get(b"none", size) is None

    # --- order ---

    def test_scan_goes_in_byte_order_within_its_bounds(self, env: Environment) -> None:
        keys = [b"\0", b"\0\0", b"a", b"a\0", b"a\xff", b"b", b"\xff", b"\xff" * KEY_BYTES_MAX]
        for key in reversed(keys):
            put(env, key, key[:1])
        bounds = [b"", *keys, b"a" * 600, b"\xff" * 600]
        with env.read() as view:
            for start in bounds:
                for stop in bounds:
                    expected = [(key, key[:1]) for key in sorted(keys) if start <= key < stop]
                    assert list(view.scan(start, stop)) == expected, (start, stop)
                    assert list(view.scan(start, stop, reverse=True)) == expected[::-1], (start, stop)

    def test_scan_of_a_batch_includes_its_own_writes(self, env: Environment) -> None:
        put(env, b"a", b"1")
        put(env, b"b", b"1")
        with env.write(wait_s=1) as batch:
            batch.put(b"c", b"2")
            batch.delete(b"a")
            assert list(batch.scan(*EVERYTHING)) == [(b"b", b"1"), (b"c", b"2")]
            assert next(iter(batch.scan(b"b", b"d", reverse=True))) == (b"c", b"2")

    # --- exclusive, with a deadline ---

    @pytest.mark.parametrize("wait_s", [0, 0.02])
    def test_a_second_writer_meets_its_deadline(self, env: Environment, wait_s: float) -> None:
        def second() -> None:
            with pytest.raises(Unreachable), env.write(wait_s=wait_s):
                pass

        with env.write(wait_s=1) as batch:
            batch.put(b"a", b"1")
            in_thread(second)
            second()  # also in the thread that holds it
        assert get(env, b"a") == b"1"

    def test_a_second_environment_of_the_same_path_is_not_a_way_around(
        self, driver: Driver, path: Path, env: Environment
    ) -> None:
        other = driver.open(path, IDENTITY)
        with env.write(wait_s=1), pytest.raises(Unreachable), other.write(wait_s=0):
            pass
        put(other, b"a", b"1")
        assert get(env, b"a") == b"1"
        other.close()
        put(env, b"b", b"2")

    def test_a_waiting_writer_gets_its_turn(self, env: Environment) -> None:
        with env.write(wait_s=1) as batch:
            waiter = threading.Thread(target=put, args=(env, b"b", b"2", 30.0))
            waiter.start()
            batch.put(b"a", b"1")
        waiter.join()
        assert (get(env, b"a"), get(env, b"b")) == (b"1", b"2")

    def test_writers_do_not_lose_each_others_updates(self, env: Environment) -> None:
        def count() -> None:
            for _ in range(20):
                with env.write(wait_s=30) as batch:
                    batch.put(b"n", b"%d" % (int(batch.get(b"n") or b"0") + 1))

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert get(env, b"n") == b"80"

    def test_a_block_that_raised_gives_the_lock_back(self, env: Environment) -> None:
        with pytest.raises(Stop), env.write(wait_s=1):
            raise Stop
        put(env, b"a", b"1", 0)
        assert get(env, b"a") == b"1"

    def test_a_batch_ends_in_the_thread_that_opened_it(self, env: Environment) -> None:
        block = env.write(wait_s=1)
        block.__enter__().put(b"a", b"1")

        def end() -> None:
            with pytest.raises(AssertionError):
                block.__exit__(None, None, None)

        in_thread(end)
        block.__exit__(None, None, None)
        assert get(env, b"a") == b"1"

    # --- snapshots ---

    def test_a_view_sees_the_last_commit_before_it_and_nothing_after(self, env: Environment) -> None:
        put(env, b"a", b"1")
        with env.write(wait_s=1) as batch:
            batch.put(b"a", b"2")
            batch.put(b"b", b"2")
            with env.read() as before:
                assert before.get(b"a") == b"1"
                assert list(before.scan(*EVERYTHING)) == [(b"a", b"1")]
        with env.read() as old:
            put(env, b"a", b"3")
            with env.read() as new:
                assert (old.get(b"a"), new.get(b"a")) == (b"2", b"3")
            assert list(old.scan(*EVERYTHING)) == [(b"a", b"2"), (b"b", b"2")]

    def test_a_view_never_waits_for_a_writer_in_another_thread(self, env: Environment) -> None:
        put(env, b"a", b"1")
        seen: list[bytes | None] = []
        with env.write(wait_s=1) as batch:
            batch.put(b"a", b"2")
            in_thread(lambda: seen.append(get(env, b"a")))
        assert seen == [b"1"]

    def test_bytes_outlive_the_block(self, env: Environment) -> None:
        put(env, b"a", b"1" * 10_000)
        with env.read() as view:
            value = view.get(b"a")
            rows = list(view.scan(*EVERYTHING))
        for turn in range(5):
            put(env, b"a", b"%d" % turn * 10_000)
        assert value == b"1" * 10_000
        assert rows == [(b"a", b"1" * 10_000)]
        assert type(value) is bytes and type(rows[0][0]) is bytes

    def test_a_block_is_over_when_it_is_over(self, env: Environment) -> None:
        with env.write(wait_s=1) as batch:
            batch.put(b"a", b"1")
        with env.read() as view:
            pass
        uses: list[Callable[[], object]] = [
            lambda: view.get(b"a"),
            lambda: batch.get(b"a"),
            lambda: batch.put(b"a", b"2"),
        ]
        for use in uses:
            with pytest.raises(AssertionError):
                use()
        assert get(env, b"a") == b"1"

    # --- the truth about failure ---

    def test_signals_are_delivered_after_the_outcome(self, driver: Driver, path: Path, env: Environment) -> None:
        reached = []
        with pytest.raises(KeyboardInterrupt), env.write(wait_s=1) as batch:
            signal.raise_signal(signal.SIGINT)
            batch.put(b"a", b"1")
            reached.append(True)
        assert reached
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        env.close()
        assert self.raw_rows(driver, path) == {b"a": b"1"}

    def test_signals_wait_for_the_outermost_block(self, driver: Driver, tmp_path: Path, env: Environment) -> None:
        driver.create(tmp_path / "other", IDENTITY)
        other = driver.open(tmp_path / "other", IDENTITY)
        got: list[int] = []
        before = signal.signal(signal.SIGTERM, lambda signum, frame: got.append(signum))
        try:
            with env.write(wait_s=1) as batch:
                with other.write(wait_s=1):
                    signal.raise_signal(signal.SIGTERM)
                batch.put(b"a", b"1")
                assert got == []
            assert got == [signal.SIGTERM]
        finally:
            signal.signal(signal.SIGTERM, before)
            other.close()
        assert get(env, b"a") == b"1"

    def test_a_failed_domain_answers_nothing_until_it_is_restored(
        self, driver: Driver, path: Path, env: Environment
    ) -> None:
        put(env, b"a", b"1")
        assert not driver.is_failed(path)
        driver.fail(path)
        driver.fail(path)
        assert driver.is_failed(path)
        for environment in (env, driver.open(path, IDENTITY)):
            with pytest.raises(Unreachable), environment.read():
                pass
            with pytest.raises(Unreachable), environment.write(wait_s=1):
                pass
        driver.restore(path)
        driver.restore(path)
        assert not driver.is_failed(path)
        assert get(env, b"a") == b"1"

    def test_failing_what_is_not_there_is_refused(self, driver: Driver, path: Path) -> None:
        with pytest.raises(Unreachable):
            driver.fail(path)
        assert not driver.is_failed(path)
        driver.restore(path)

    def test_a_closed_environment_is_unreachable(self, driver: Driver, path: Path, env: Environment) -> None:
        other = driver.open(path, IDENTITY)
        put(env, b"a", b"1")
        assert get(other, b"a") == b"1"
        env.close()
        env.close()
        with pytest.raises(Unreachable), env.read():
            pass
        with pytest.raises(Unreachable), env.write(wait_s=0):
            pass
        assert get(other, b"a") == b"1"
        other.close()

    def test_closing_within_a_view_does_not_take_it_away(self, env: Environment) -> None:
        put(env, b"a", b"1")
        with env.read() as view:
            env.close()
            assert view.get(b"a") == b"1"

    # --- recognisable ---

    def test_open_touches_nothing_and_the_first_use_says_what_is_missing(self, driver: Driver, path: Path) -> None:
        environment = driver.open(path, IDENTITY)
        with pytest.raises(Unreachable, match="missing"), environment.read():
            pass
        with pytest.raises(Unreachable, match="missing"), environment.write(wait_s=0):
            pass
        driver.create(path, IDENTITY)
        put(environment, b"a", b"1")
        environment.close()

    def test_an_environment_is_made_once(self, driver: Driver, path: Path, env: Environment) -> None:
        put(env, b"a", b"1")
        with pytest.raises(Unreachable, match="already"):
            driver.create(path, Identity("st_other", IDENTITY.domain, "inc_other"))
        assert get(env, b"a") == b"1"

    def test_identity_is_the_one_found(self, driver: Driver, path: Path, env: Environment) -> None:
        any_incarnation = driver.open(path, Identity(IDENTITY.store, IDENTITY.domain, ""))
        assert any_incarnation.identity == IDENTITY == env.identity
        any_incarnation.close()

    def test_it_can_be_told_whose_an_environment_is(self, driver: Driver, path: Path, env: Environment) -> None:
        assert driver.identity_of(path) == IDENTITY and driver.identity_of(path.parent / "none") is None
        with env.write(wait_s=0) as batch:
            for number in range(2000):
                batch.put(b"\x02%d" % number, b"x" * 500)
            assert driver.identity_of(path) == IDENTITY  # nobody is waited for
        driver.fail(path)
        assert driver.identity_of(path) == IDENTITY
        driver.restore(path)
        driver.destroy(path)
        assert driver.identity_of(path) is None

    @pytest.mark.parametrize(
        ("other", "error"),
        [
            (Identity("st_other", IDENTITY.domain, IDENTITY.incarnation), Unreachable),
            (Identity(IDENTITY.store, "aws/eu-west-1/eu-west-1b", IDENTITY.incarnation), Unreachable),
            (Identity(IDENTITY.store, IDENTITY.domain, IDENTITY.incarnation, format=IDENTITY.format + 1), Unreachable),
            (Identity(IDENTITY.store, IDENTITY.domain, "inc_second"), Damaged),
        ],
    )
    def test_someone_elses_environment_is_refused(
        self, driver: Driver, path: Path, env: Environment, other: Identity, error: type[Exception]
    ) -> None:
        put(env, b"a", b"1")
        stranger = driver.open(path, other)
        with pytest.raises(error), stranger.read():
            pass
        with pytest.raises(error), stranger.write(wait_s=0):
            pass
        stranger.close()
        assert get(env, b"a") == b"1"

    def test_what_was_destroyed_is_missing_and_what_was_made_anew_is_another(
        self, driver: Driver, path: Path, env: Environment
    ) -> None:
        put(env, b"a", b"1")
        driver.destroy(path)
        driver.destroy(path)
        with pytest.raises(Unreachable, match="missing"), env.read():
            pass
        driver.create(path, Identity(IDENTITY.store, IDENTITY.domain, "inc_second"))
        with pytest.raises(Damaged), env.write(wait_s=0):
            pass
        env.close()
        assert self.raw_rows(driver, path) == {}


def put(env: Environment, key: bytes, value: bytes, wait_s: float = 1.0) -> None:
    """Writes one row in one block."""
    with env.write(wait_s=wait_s) as batch:
        batch.put(key, value)


def get(env: Environment, key: bytes) -> bytes | None:
    """Reads one row in one block."""
    with env.read() as view:
        return view.get(key)


def in_thread(work: Callable[[], object]) -> None:
    """Runs `work` in a thread to its end, and raises here what it raised there."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if raised:
        raise raised[0]
