"""The nouns that an operator manages, as attributes of an open store: `store.queues`, `store.consumers` and so on.

Promises
- A noun is imported when it is asked for: work on a store pays for none of them.
"""

from __future__ import annotations

from grafctl.store.session import Session
from grafctl.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from grafctl.nouns.audits import Audits
    from grafctl.nouns.authorities import Authorities
    from grafctl.nouns.consumers import Consumers
    from grafctl.nouns.dead import Dead
    from grafctl.nouns.domains import Domains
    from grafctl.nouns.edges import Edges
    from grafctl.nouns.health import Health
    from grafctl.nouns.idems import Idems
    from grafctl.nouns.leases import Leases
    from grafctl.nouns.locators import Locators
    from grafctl.nouns.placements import Placements
    from grafctl.nouns.policies import Policies
    from grafctl.nouns.queues import Queues
    from grafctl.nouns.schemas import Schemas
    from grafctl.nouns.switches import Switches
    from grafctl.nouns.tables import Tables
    from grafctl.nouns.topics import Topics
    from grafctl.nouns.vshards import Vshards


class Nouns:
    """What `client.Store` has beside its work and its operations."""

    session: Session

    @property
    def domains(self) -> Domains:
        from grafctl.nouns.domains import Domains

        return Domains(self.session)

    @property
    def authorities(self) -> Authorities:
        from grafctl.nouns.authorities import Authorities

        return Authorities(self.session)

    @property
    def health(self) -> Health:
        from grafctl.nouns.health import Health

        return Health(self.session)

    @property
    def queues(self) -> Queues:
        from grafctl.nouns.queues import Queues

        return Queues(self.session)

    @property
    def topics(self) -> Topics:
        from grafctl.nouns.topics import Topics

        return Topics(self.session)

    @property
    def idem(self) -> Idems:
        from grafctl.nouns.idems import Idems

        return Idems(self.session)

    @property
    def tables(self) -> Tables:
        from grafctl.nouns.tables import Tables

        return Tables(self.session)

    @property
    def vshards(self) -> Vshards:
        from grafctl.nouns.vshards import Vshards

        return Vshards(self.session)

    @property
    def schemas(self) -> Schemas:
        from grafctl.nouns.schemas import Schemas

        return Schemas(self.session)

    @property
    def consumers(self) -> Consumers:
        from grafctl.nouns.consumers import Consumers

        return Consumers(self.session)

    @property
    def switches(self) -> Switches:
        from grafctl.nouns.switches import Switches

        return Switches(self.session)

    @property
    def dead(self) -> Dead:
        from grafctl.nouns.dead import Dead

        return Dead(self.session)

    @property
    def leases(self) -> Leases:
        from grafctl.nouns.leases import Leases

        return Leases(self.session)

    @property
    def edges(self) -> Edges:
        from grafctl.nouns.edges import Edges

        return Edges(self.session)

    @property
    def placement(self) -> Placements:
        from grafctl.nouns.placements import Placements

        return Placements(self.session)

    @property
    def policy(self) -> Policies:
        from grafctl.nouns.policies import Policies

        return Policies(self.session)

    @property
    def locator(self) -> Locators:
        from grafctl.nouns.locators import Locators

        return Locators(self.session)

    @property
    def audit(self) -> Audits:
        from grafctl.nouns.audits import Audits

        return Audits(self.session)
