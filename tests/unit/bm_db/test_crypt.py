"""Encrypted values: what BILLmanager encrypts is read, what it did not is never taken for a value."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from bm_db.crypt import Cipher
from bm_db.errors import PrivateKeyUnusable, ValueRefused, ValueUndecryptable

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = KEY.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
CIPHER = Cipher(PEM)


@given(st.text(max_size=60))
def test_what_was_encrypted_is_decrypted(text: str) -> None:
    assert CIPHER.decrypt(CIPHER.encrypt(text)) == text


def test_both_pem_formats_are_read() -> None:
    pkcs8 = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert Cipher(pkcs8).decrypt(CIPHER.encrypt("secret")) == "secret"


def test_white_space_in_the_base64_is_ignored() -> None:
    value = CIPHER.encrypt("secret")
    assert CIPHER.decrypt(" " + value[:64] + "\r\n" + value[64:] + "\n") == "secret"


def test_encrypting_is_random() -> None:
    assert CIPHER.encrypt("secret") != CIPHER.encrypt("secret")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "secret",
        "AAAA",
        "ü",
        "=",
        base64.b64encode(b"\xff" * 256).decode(),
        base64.b64encode(b"x" * 255).decode(),
    ],
)
def test_other_values_are_undecryptable(value: str) -> None:
    with pytest.raises(ValueUndecryptable) as caught:
        CIPHER.decrypt(value)
    assert "\n" not in str(caught.value)


def test_value_made_for_another_key_is_never_taken_for_a_password() -> None:
    # OpenSSL answers such values with random bytes, often short ones.
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for number in range(150):
        with pytest.raises(ValueUndecryptable):
            Cipher(pem).decrypt(CIPHER.encrypt(f"password {number}"))


def test_value_that_is_not_text_is_undecryptable() -> None:
    value = (
        pow(
            int.from_bytes(b"\x00\x02" + b"\x01" * 20 + b"\x00" + b"\xff" * 233, "big"),
            65537,
            KEY.public_key().public_numbers().n,
        )
    ).to_bytes(256, "big")
    with pytest.raises(ValueUndecryptable):
        CIPHER.decrypt(base64.b64encode(value).decode())


def test_too_long_a_text_is_refused() -> None:
    assert CIPHER.decrypt(CIPHER.encrypt("x" * 245)) == "x" * 245
    with pytest.raises(ValueRefused, match="246 bytes"):
        CIPHER.encrypt("x" * 246)


ELLIPTIC = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("pem", "words"),
    [
        (b"", "not a PEM private key"),
        (b"no key", "not a PEM private key"),
        (PEM[:200], "not a PEM private key"),
        (
            KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "not a PEM private key",
        ),
        (ELLIPTIC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "not an RSA key"),
        (KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "passphrase"),
    ],
)
def test_unusable_key_is_named(pem: bytes, words: str) -> None:
    with pytest.raises(PrivateKeyUnusable, match=words) as caught:
        Cipher(pem)
    assert "private_key_file" in str(caught.value)


def test_random_answer_that_looks_like_text_is_found_out_by_its_padding() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    cipher = Cipher(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    for number in range(100_000):
        value = b"\x00" + hashlib.shake_256(number.to_bytes(4, "big")).digest(127)
        try:
            key.decrypt(value, padding.PKCS1v15()).decode("utf-8")
        except ValueError:
            continue  # this one shows by itself
        with pytest.raises(ValueUndecryptable):
            cipher.decrypt(base64.b64encode(value).decode())
        return
    pytest.fail("no such value was found")
