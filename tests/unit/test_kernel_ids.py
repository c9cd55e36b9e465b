import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatekeeper.kernel import ids


@given(st.binary(min_size=ids.RANDOM_BYTES, max_size=ids.RANDOM_BYTES))
def test_session_and_login_name_each_other(random: bytes) -> None:
    session = ids.session_id(random)
    role = ids.role_name(session)

    assert ids.is_session_id(session)
    assert ids.ROLE_NAME.fullmatch(role)
    assert len(role) == 23
    assert ids.session_of(role) == session


def test_different_randomness_gives_different_ids() -> None:
    made = {ids.session_id(bytes([n]) * ids.RANDOM_BYTES) for n in range(256)}

    assert len(made) == 256


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ses_",
        "ses_" + "a" * 19,
        "ses_" + "a" * 21,
        "ses_" + "A" * 20,
        "ses_" + "1" * 20,
        "gk_" + "a" * 20,
        "ses_" + "a" * 20 + "\n",
        "ses_" + "а" * 20,
    ],
)
def test_anything_else_is_no_session_id(text: str) -> None:
    assert not ids.is_session_id(text)


@pytest.mark.parametrize("count", [0, 12, 14])
def test_an_id_needs_its_randomness(count: int) -> None:
    with pytest.raises(ValueError, match="random bytes"):
        ids.session_id(b"x" * count)


@pytest.mark.parametrize("text", ["a", "cor_x-1.2", "A" * 64])
def test_a_callers_correlation_id_is_kept(text: str) -> None:
    assert ids.is_correlation_id(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "a b", "a\n", "é", "{}", "a;b"])
def test_a_strange_correlation_id_is_not(text: str) -> None:
    assert not ids.is_correlation_id(text)
