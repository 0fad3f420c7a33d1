"""Chains, SPIFFE ids and forged identities."""

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fedmesh_samples import NOW, TRUST_DOMAIN, Authority

from fedmesh import certs

ID = f"spiffe://{TRUST_DOMAIN}/ns/sleep/sa/sleep"


def test_a_chain_over_an_intermediate_leads_to_its_root():
    root = Authority("root")
    intermediate = Authority("intermediate", issuer=root)
    leaf = intermediate.issue(ID)
    assert certs.chain_fault([leaf, intermediate.certificate], [root.certificate], NOW) is None


def test_a_chain_does_not_lead_to_a_root_of_the_same_name():
    root, impostor = Authority("root"), Authority("root")
    fault = certs.chain_fault([root.issue(ID)], [impostor.certificate], NOW)
    assert fault == f"{ID} was not issued by any authority of the bundle"


def test_a_chain_whose_links_do_not_fit_is_refused():
    root = Authority("root")
    fault = certs.chain_fault(
        [Authority("x").issue(ID), Authority("y", issuer=root).certificate], [root.certificate], NOW
    )
    assert fault == f"{ID} was not issued by CN=y"


def test_a_leaf_cannot_issue():
    root = Authority("root")
    leaf = root.issue(ID)
    assert certs.chain_fault([leaf, leaf], [root.certificate], NOW) is not None


def test_an_expired_certificate_is_refused_with_its_span():
    root = Authority("root")
    leaf = root.issue(ID, left=timedelta(minutes=-1))
    assert "2026-11-23 11:59:00 only" in certs.chain_fault([leaf], [root.certificate], NOW)


def test_an_expired_root_vouches_for_nobody():
    root = Authority("root", days=-1)
    assert certs.chain_fault([root.issue(ID)], [root.certificate], NOW) is not None


def test_a_spiffe_id_is_the_only_uri():
    assert certs.spiffe_id(Authority("root").issue(ID)) == ID
    assert certs.spiffe_id(Authority("root").certificate) is None


def test_a_forged_identity_claims_the_id_and_chains_to_nobody_elses_root():
    forged = certs.forge(ID, NOW)
    chain = certs.parse_chain(forged.pem.encode())
    assert certs.spiffe_id(chain[0]) == ID
    assert certs.chain_fault(chain, [chain[1]], NOW) is None
    assert certs.chain_fault(chain, [Authority("root").certificate], NOW) is not None
    key = load_pem_private_key(forged.pem.encode(), None)
    assert key.public_key() == chain[0].public_key()


def test_life_left_is_a_share_of_the_whole():
    root = Authority("root")
    assert certs.life_left(root.issue(ID, left=timedelta(minutes=15)), NOW) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (3600, "1h"), (3725, "1h 2m"), (90061, "1d 1h"), (-61, "-1m 1s")],
)
def test_durations_are_told_in_two_units(seconds, text):
    assert certs.human(timedelta(seconds=seconds)) == text
