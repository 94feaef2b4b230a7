"""`authority`: whose signed word on the health of a domain is believed.

Promises
- A name belongs to one key for good: another key under it is refused, and so is a name that was revoked.
- Only public keys enter the store; a private key given in their place is refused unread.
- What an authority said before it was revoked stays; from then on its word is refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafctl.names import check_name
from grafctl.nouns.consumers import run_request
from grafctl.results import Change, Listed
from grafctl.store import keys, signing
from grafctl.store.resources.control import AddAuthority, RevokeAuthority, rows
from grafctl.store.session import Session


def authority_fields(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """Returns what `authority list` prints of one authority."""
    return {
        "authority": name,
        "state": "revoked" if row["revoked"] else "trusted",
        "fingerprint": signing.fingerprint(row["public_key"]),
        "public_key": row["public_key"],
        "added_ms": row["added_ms"],
    }


class Authorities:
    """The health authorities of one store."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def add(self, name: str, public_key: Path, *, dry_run: bool = False) -> Change:
        """Believes what is signed by this key from now on; the same key again changes nothing."""
        op = "authority add"
        request = AddAuthority(check_name("authority", name), signing.load_public(public_key))
        with self.session.audited(op, authority=name):
            changed = run_request(self.session, self.session.control, request, dry_run)
        fingerprint = signing.fingerprint(request.public_key)
        if changed and not dry_run:
            self.session.note("changed", op, authority=name, fingerprint=fingerprint)
        return Change(
            changed,
            after={"authority": name, "state": "trusted", "fingerprint": fingerprint},
            dry_run=dry_run or None,
            actions=[f"trust the authority {name}"] if changed else [],
        )

    def list(self) -> Listed:
        """Returns every authority by name, the revoked ones included."""
        return Listed("authorities", [authority_fields(name, row) for name, row in sorted(self._rows().items())])

    def revoke(self, name: str, *, dry_run: bool = False) -> Change:
        """Believes this key no longer, for good; raises `NotFound`."""
        op = "authority revoke"
        request = RevokeAuthority(check_name("authority", name))
        with self.session.audited(op, authority=name):
            changed = run_request(self.session, self.session.control, request, dry_run)
        if changed and not dry_run:
            self.session.note("changed", op, authority=name)
        return Change(
            changed,
            before={"authority": name, "state": "trusted" if changed else "revoked"},
            after={"authority": name, "state": "revoked"},
            dry_run=dry_run or None,
            actions=[f"revoke the authority {name}"] if changed else [],
        )

    def _rows(self) -> dict[str, dict[str, Any]]:
        with self.session.control.view() as committed:
            return rows(committed.state, keys.authorities())
