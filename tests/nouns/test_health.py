"""Authorities and observations: whose word is kept, and what refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grafctl import client, clock
from grafctl.errors import DomainUnavailable, GenerationConflict, HealthRejected, NotFound, Usage
from grafctl.nouns import health
from grafctl.store import keys, signing
from grafctl.store.records import decode_entry
from grafctl.store.resources.control import Observe

AWS, GCP, AZURE = "aws/us-east-1/us-east-1a", "gcp/us-central1", "azure/eastus"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[client.Store]:
    client.create(tmp_path / "store", {AWS: None, GCP: None, AZURE: None})
    for name in ("scheduler-a", "scheduler-b"):
        client.keygen(name, tmp_path)
    with client.open(tmp_path / "store") as opened:
        opened.authorities.add("scheduler-a", tmp_path / "scheduler-a.pub")
        yield opened


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "scheduler-a.key"


def observed(store: client.Store) -> dict[str, dict[str, Any]]:
    return {item["domain"]: item for item in store.health.list().items}


def refusals(store: client.Store) -> list[dict[str, Any]]:
    return [record for record in noted(store) if record["outcome"] == "refused"]


def noted(store: client.Store) -> list[dict[str, Any]]:
    """Returns the audit records, read from the log's own entries."""
    log = store.session.audit
    with log.view() as committed:
        rows = committed.view.scan(*keys.entries(log.id, 0, keys.U64_MAX))
        requests = [decode_entry(raw, "entry").request for _, raw in rows]
    return [request["record"] for request in requests if "record" in request]


# --- authorities


def test_an_authority_is_added_once(store: client.Store, tmp_path: Path) -> None:
    again = store.authorities.add("scheduler-a", tmp_path / "scheduler-a.pub")
    assert (again.changed, again.actions) == (False, [])
    (item,) = store.authorities.list().items
    assert (item["authority"], item["state"]) == ("scheduler-a", "trusted")
    assert item["public_key"] == signing.load_public(tmp_path / "scheduler-a.pub")


def test_a_name_belongs_to_one_key(store: client.Store, tmp_path: Path) -> None:
    for dry_run in (True, False):
        with pytest.raises(GenerationConflict, match="another key"):
            store.authorities.add("scheduler-a", tmp_path / "scheduler-b.pub", dry_run=dry_run)


def test_the_private_key_does_not_enter_the_store(store: client.Store, tmp_path: Path) -> None:
    with pytest.raises(Usage, match="other half"):
        store.authorities.add("scheduler-b", tmp_path / "scheduler-b.key")
    assert len(store.authorities.list().items) == 1


def test_revoking_is_final_and_repeatable(store: client.Store, tmp_path: Path) -> None:
    assert store.authorities.revoke("scheduler-a", dry_run=True).changed
    assert store.authorities.list().items[0]["state"] == "trusted"
    assert store.authorities.revoke("scheduler-a").changed
    again = store.authorities.revoke("scheduler-a")
    assert (again.changed, again.before) == (False, {"authority": "scheduler-a", "state": "revoked"})
    with pytest.raises(GenerationConflict, match="was revoked"):
        store.authorities.add("scheduler-a", tmp_path / "scheduler-a.pub")
    with pytest.raises(NotFound):
        store.authorities.revoke("nobody")


def test_a_dry_run_writes_nothing(store: client.Store, tmp_path: Path, key: Path) -> None:
    change = store.authorities.add("scheduler-b", tmp_path / "scheduler-b.pub", dry_run=True)
    assert change.as_json()["dry_run"] and change.changed and change.actions
    store.health.observe(AWS, "healthy", authority="scheduler-a", key_file=key, dry_run=True)
    assert [item["authority"] for item in store.authorities.list().items] == ["scheduler-a"]
    assert observed(store)[AWS]["status"] == health.NEVER
    assert [record["op"] for record in noted(store)] == ["authority add"]


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a\0", "x" * 129])
def test_a_bad_name_is_a_usage_error(store: client.Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(Usage):
        store.authorities.add(name, tmp_path / "scheduler-b.pub")
    with pytest.raises(Usage):
        store.authorities.revoke(name)


# --- observations


def test_an_observation_is_kept_and_listed(store: client.Store, key: Path) -> None:
    change = store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)
    assert change.changed and change.domain == AZURE
    assert change.before == {"status": health.NEVER}
    assert change.after is not None
    items = observed(store)
    assert list(items) == [AWS, GCP, AZURE]
    assert items[GCP] == {
        "domain": GCP,
        "status": "never observed",
        "authority": None,
        "observed_ms": None,
        "age_ms": None,
    }
    assert items[AZURE]["observed_ms"] == change.after["observed_ms"]
    assert 0 <= items[AZURE]["age_ms"] < 60_000
    assert store.session.health() == {AZURE: "healthy"}


def test_what_is_kept_is_signed(store: client.Store, key: Path) -> None:
    store.health.observe(AZURE, "unhealthy", authority="scheduler-a", key_file=key)
    kept = store.session.observations()[AZURE]
    public_key = store.authorities.list().items[0]["public_key"]
    assert store.health.is_signed(AZURE, kept, public_key)
    assert not store.health.is_signed(GCP, kept, public_key)
    assert not store.health.is_signed(AZURE, kept | {"status": "healthy"}, public_key)
    store.session.cluster.store = "st_another"
    assert not store.health.is_signed(AZURE, kept, public_key)


def test_observations_in_quick_succession_are_each_newer(
    store: client.Store, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms)
    changes = [
        store.health.observe(AZURE, status, authority="scheduler-a", key_file=key)
        for status in ("healthy", "unhealthy", "healthy")
    ]
    times = [change.after["observed_ms"] for change in changes if change.after]
    assert times == [now_ms, now_ms + 1, now_ms + 2]
    assert [change.before for change in changes[1:]] == [{"status": "healthy"}, {"status": "unhealthy"}]
    assert observed(store)[AZURE]["age_ms"] == 0


def test_a_clock_that_went_back_is_refused(store: client.Store, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)
    monkeypatch.setenv("GRAFCTL_CLOCK_OFFSET_MS", "-60000")
    with pytest.raises(HealthRejected, match="behind the last observation") as caught:
        store.health.observe(AZURE, "unhealthy", authority="scheduler-a", key_file=key)
    assert caught.value.exit_code == 18 and caught.value.fields["audit"] is not None
    assert store.session.health() == {AZURE: "healthy"}
    store.health.observe(GCP, "healthy", authority="scheduler-a", key_file=key)  # each domain has a time of its own


def test_a_lost_race_is_signed_again(store: client.Store, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_ms = clock.now_ms()
    monkeypatch.setattr(clock, "now_ms", lambda: now_ms)
    public_key = signing.load_public(key.with_suffix(".pub"))
    rivals = iter([now_ms, now_ms + 1])
    sign = signing.sign

    def signed_while_another_is_quicker(private: bytes, message: bytes) -> str:
        for observed_ms in rivals:
            other = {"authority": "scheduler-a", "observed_ms": observed_ms, "signature": "", "status": "unhealthy"}
            store.session.control.append(Observe(AZURE, other, public_key))
        return sign(private, message)

    monkeypatch.setattr(signing, "sign", signed_while_another_is_quicker)
    change = store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)
    assert change.after is not None and change.after["observed_ms"] == now_ms + 2
    assert change.before == {"status": "unhealthy"}


def test_the_key_of_another_is_refused(store: client.Store, tmp_path: Path) -> None:
    with pytest.raises(HealthRejected, match="not that of authority scheduler-a"):
        store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=tmp_path / "scheduler-b.key")
    assert observed(store)[AZURE]["status"] == health.NEVER


def test_an_authority_that_is_unknown_or_revoked_is_refused(store: client.Store, tmp_path: Path, key: Path) -> None:
    with pytest.raises(HealthRejected, match="scheduler-b is not known"):
        store.health.observe(AZURE, "healthy", authority="scheduler-b", key_file=tmp_path / "scheduler-b.key")
    store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)
    store.authorities.revoke("scheduler-a")
    with pytest.raises(HealthRejected, match="scheduler-a was revoked"):
        store.health.observe(AZURE, "unhealthy", authority="scheduler-a", key_file=key)
    assert store.session.health() == {AZURE: "healthy"}


def test_an_authority_that_is_revoked_meanwhile_is_refused(
    store: client.Store, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign = signing.sign

    def signed_too_late(private: bytes, message: bytes) -> str:
        store.authorities.revoke("scheduler-a")
        return sign(private, message)

    monkeypatch.setattr(signing, "sign", signed_too_late)
    with pytest.raises(HealthRejected, match="was revoked"):
        store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)


def test_a_key_that_others_may_read_is_refused_and_noted(store: client.Store, key: Path) -> None:
    key.chmod(0o644)
    with pytest.raises(HealthRejected, match="mode 644"):
        store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)
    (refusal,) = refusals(store)
    assert (refusal["op"], refusal["code"], refusal["domain"]) == ("health observe", "health_rejected", AZURE)


def test_what_is_noted_of_an_observation(store: client.Store, key: Path) -> None:
    store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)
    record = noted(store)[-1]
    assert (record["outcome"], record["op"], record["status"]) == ("changed", "health observe", "healthy")
    assert (record["domain"], record["authority"]) == (AZURE, "scheduler-a")


@pytest.mark.parametrize(
    ("domain", "status", "authority", "error"),
    [
        (AZURE, "fine", "scheduler-a", Usage),
        (AZURE, "", "scheduler-a", Usage),
        (AZURE, "Healthy", "scheduler-a", Usage),
        ("azure//x", "healthy", "scheduler-a", Usage),
        ("", "healthy", "scheduler-a", Usage),
        (AZURE, "healthy", "../scheduler-a", Usage),
        ("azure", "healthy", "scheduler-a", NotFound),
        ("oracle", "healthy", "nobody", NotFound),
    ],
)
def test_wrong_arguments(
    store: client.Store, key: Path, domain: str, status: str, authority: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        store.health.observe(domain, status, authority=authority, key_file=key)
    assert not store.session.observations()


def test_a_missing_key_is_not_found(store: client.Store, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=tmp_path / "none.key")


def test_a_removed_domain_takes_its_observation_with_it(store: client.Store, key: Path) -> None:
    store.queues.create("q", replicas=[f"a={AWS}", f"g={GCP}"], allow=["aws"], schema="s")
    store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)
    store.domains.remove(AZURE, dry_run=True)
    assert observed(store)[AZURE]["status"] == "healthy"
    store.domains.remove(AZURE)
    assert list(observed(store)) == [AWS, GCP] and AZURE not in store.session.observations()
    store.domains.add(AZURE)
    assert observed(store)[AZURE]["status"] == "never observed"
    with pytest.raises(DomainUnavailable) as refused:
        store.locator.set("q", generation=2, add=[f"z={AZURE}"])
    assert refused.value.exit_code == 12
    store.health.observe(AZURE, "healthy", authority="scheduler-a", key_file=key)
    assert store.locator.set("q", generation=2, add=[f"z={AZURE}"]).changed
