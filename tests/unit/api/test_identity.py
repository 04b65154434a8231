"""Tokens: made once, kept hashed, ended in time."""

from __future__ import annotations

import stat

import pytest

from common.clock import ManualClock
from common.errors import BadInput, Conflict, NotFound, Unauthenticated
from coordinator.adapters.sql import make_store
from coordinator.domain.tenancy import PLATFORM, Role
from coordinator.services.identity import Identity
from tests.unit.api.world import EAST, NORTH

NOBODY = "hat1_tok_0123456789abcdef." + "s" * 43


@pytest.fixture
async def fresh(tmp_path):
    store = make_store(f"sqlite:///{tmp_path / 'hub.sqlite'}")
    await store.acquire_epoch()
    yield Identity(store, ManualClock()), store
    await store.close()


def live(store):
    return store.read(lambda tx: [t for t in tx.tenants.tokens(PLATFORM) if not t.revoked])


async def test_the_first_start_leaves_one_admin_token_that_only_its_owner_can_read(fresh, tmp_path):
    identity, _ = fresh
    path = tmp_path / "admin.token"
    assert await identity.ensure_admin_token(path) is True
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    principal = await identity.authenticate(path.read_text().strip())
    assert principal.roles == {Role.PLATFORM_ADMIN}
    assert principal.tenants == {PLATFORM}


async def test_later_starts_leave_it_as_it_is_even_if_the_operator_took_the_file_away(fresh, tmp_path):
    identity, store = fresh
    path = tmp_path / "admin.token"
    await identity.ensure_admin_token(path)
    before = path.read_text()
    assert await identity.ensure_admin_token(path) is False
    assert path.read_text() == before
    path.unlink()
    assert await identity.ensure_admin_token(path) is False
    assert not path.exists()
    assert len(await live(store)) == 1


async def test_a_crash_between_file_and_record_is_mended_by_the_next_start(fresh, tmp_path):
    identity, store = fresh
    path = tmp_path / "admin.token"
    path.write_text(NOBODY)  # written, but the record never was
    assert await identity.ensure_admin_token(path) is True
    await identity.authenticate(path.read_text().strip())
    assert len(await live(store)) == 1


async def test_when_the_last_admin_token_is_revoked_the_next_start_makes_one(fresh, tmp_path):
    identity, store = fresh
    path = tmp_path / "admin.token"
    await identity.ensure_admin_token(path)
    old = path.read_text().strip()
    (token,) = await live(store)
    await identity.revoke_token(PLATFORM, token.id)
    assert await identity.ensure_admin_token(path) is True
    with pytest.raises(Unauthenticated):
        await identity.authenticate(old)


@pytest.mark.parametrize(
    "bearer", ["", "x", "hat1_", NOBODY, NOBODY + "\n", " " + NOBODY, "Bearer " + NOBODY, NOBODY.upper()]
)
async def test_every_bad_bearer_is_refused_with_the_same_words(fresh, bearer):
    with pytest.raises(Unauthenticated, match="missing, wrong, expired or revoked"):
        await fresh[0].authenticate(bearer)


async def test_a_known_id_with_another_secret_is_refused(world):
    mine = world.tokens["admin"]
    other = world.tokens["root"]
    mixed = mine.partition(".")[0] + "." + other.partition(".")[2]
    with pytest.raises(Unauthenticated):
        await world.services.identity.authenticate(mixed)


@pytest.mark.parametrize("name", ["", "-x", "X", "a b", "x" * 41, "a/b", "ü"])
async def test_a_tenants_name_is_a_slug(fresh, name):
    with pytest.raises(BadInput):
        await fresh[0].create_tenant(name, "")


async def test_a_tenants_name_is_taken_once_and_platform_never(fresh):
    identity, _ = fresh
    await identity.create_tenant("north", "")
    for name in ("north", "platform"):
        with pytest.raises(Conflict):
            await identity.create_tenant(name, "")


async def test_roles_stay_where_they_belong(world):
    identity = world.services.identity
    with pytest.raises(BadInput):
        await identity.create_token(NORTH, Role.PLATFORM_ADMIN, "x", None)
    with pytest.raises(BadInput):
        await identity.create_token(PLATFORM, Role.AUDITOR, "x", None)


@pytest.mark.parametrize("ttl", [0, -1, 367 * 86400, float("nan"), float("inf")])
async def test_a_tokens_life_has_bounds(world, ttl):
    identity = world.services.identity
    with pytest.raises(BadInput):
        await identity.create_token(NORTH, Role.AUDITOR, "x", ttl)
    with pytest.raises(BadInput):
        await identity.create_join_token(NORTH, "", ttl, "a" * 64)


async def test_nothing_is_issued_in_a_tenant_that_does_not_exist(world):
    identity = world.services.identity
    with pytest.raises(NotFound):
        await identity.create_token("nowhere", Role.AUDITOR, "x", None)
    with pytest.raises(NotFound):
        await identity.create_join_token("nowhere", "", 60, "a" * 64)


async def test_a_token_is_revoked_only_by_its_own_tenant(world):
    identity = world.services.identity
    (token,) = await identity.tokens(EAST)
    with pytest.raises(NotFound):
        await identity.revoke_token(NORTH, token.id)
    assert (await identity.tokens(EAST))[0].revoked is False
