"""`pvc:NAME` and `s3://BUCKET/PREFIX`."""

from typing import Annotated

import pytest
from pydantic import AfterValidator, TypeAdapter, ValidationError

from components.run_state.reference import StateReference, check_reference, claim_of


def test_a_claim() -> None:
    found = StateReference.parse("pvc:nas-state")
    assert (found.kind, found.name, found.root) == ("pvc", "nas-state", "/var/lib/nas")
    assert str(found) == "pvc:nas-state"
    assert claim_of("pvc:nas-state") == "nas-state"


def test_a_prefix_of_an_object_store() -> None:
    found = StateReference.parse("s3://bucket/a/b/")
    assert (found.kind, found.name, found.root) == ("s3", "s3://bucket/a/b", "s3://bucket/a/b")
    assert check_reference("s3://bucket/") == "s3://bucket"
    assert claim_of("s3://bucket/a") is None
    assert claim_of(None) is None


@pytest.mark.parametrize("claim", ["a.b", "A", "-a", "a-", "a" * 64, "", "a_b", "a b", "ä", "a\n"])
def test_a_claim_that_is_no_name_of_a_volume(claim: str) -> None:
    with pytest.raises(ValueError, match="at most 63 lower-case letters, digits and hyphens"):
        StateReference.parse(f"pvc:{claim}")


def test_the_longest_claim() -> None:
    assert claim_of(f"pvc:{'a' * 63}") == "a" * 63
    assert claim_of("pvc:a") == "a"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nas-state", "write pvc:nas-state"),
        ("/var/lib/nas", "is neither s3://BUCKET/PREFIX nor pvc:NAME"),
        ("gs://bucket/a", "is neither s3://BUCKET/PREFIX nor pvc:NAME"),
        ("", "is neither s3://BUCKET/PREFIX nor pvc:NAME"),
        ("s3://", "is no S3 URI"),
        ("s3://B/a", "is no S3 URI"),
        ("pvc: nas-state", "has a space; write pvc:nas-state"),
        ("s3://bucket/a?b", r"has \? in its prefix"),
        ("s3://bucket/a#b", "has # in its prefix"),
        ("s3://bucket/a b", "has a space in its prefix"),
        ("s3://bucket/a/../b", "a key with '.' or '..'"),
        ("s3://user:password@bucket/a", "holds a user name or a password"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        StateReference.parse(text)
    assert "password@" not in str(caught.value)


def test_the_message_reaches_a_validator() -> None:
    checked = TypeAdapter(Annotated[str, AfterValidator(check_reference)])
    assert checked.validate_python("pvc:a") == "pvc:a"
    with pytest.raises(ValidationError, match="no dots; rename the claim"):
        checked.validate_python("pvc:a.b")
