"""BILLmanager's encrypted values: base64 of RSA PKCS#1 v1.5, key pair in billmgr.pem.

Called by `bm_db.services` and `bm_db.servers` (decrypt) and by the SQL writer and the sandbox (encrypt).
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bm_db.errors import PrivateKeyUnusable, ValueRefused, ValueUndecryptable

_CURE: Final = "give BILLmanager's etc/billmgr.pem as private_key_file"
_CERTAIN_LENGTH: Final = 12
_PADDING_BYTES: Final = 11


class Cipher:
    """Encrypts and decrypts with BILLmanager's key pair. Thread-safe; its repr shows no key."""

    def __init__(self, private_key_pem: bytes) -> None:
        """Load the key.

        Raises:
            PrivateKeyUnusable: not an RSA private key in PEM without a passphrase.
        """
        try:
            key = load_pem_private_key(private_key_pem, password=None)
        except TypeError as exc:
            raise PrivateKeyUnusable(
                f"BILLmanager's private key is protected by a passphrase: {_CURE}"
            ) from exc
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise PrivateKeyUnusable(f"BILLmanager's private key is not a PEM private key: {_CURE}") from exc
        if not isinstance(key, rsa.RSAPrivateKey):
            raise PrivateKeyUnusable(f"BILLmanager's private key is not an RSA key: {_CURE}")
        self._key = key
        self._numbers = key.private_numbers()
        self._size_bytes = (key.key_size + 7) // 8

    def encrypt(self, text: str) -> str:
        """The value as BILLmanager stores it; a different one at every call (random padding).

        Raises:
            ValueRefused: longer than the key can hold.
        """
        content = text.encode("utf-8")
        longest_bytes = self._size_bytes - _PADDING_BYTES
        if len(content) > longest_bytes:
            raise ValueRefused(
                f"a value of {len(content)} bytes cannot be encrypted: the key holds {longest_bytes}"
            )
        return base64.b64encode(self._key.public_key().encrypt(content, padding.PKCS1v15())).decode("ascii")

    def decrypt(self, value: str) -> str:
        """The text in an encrypted value; white space inside the base64 is ignored.

        Raises:
            ValueUndecryptable: not base64, of another length, made for another key, or not text.
        """
        try:
            ciphertext = base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError) as exc:
            raise ValueUndecryptable("the value is not base64") from exc
        if len(ciphertext) != self._size_bytes:
            raise ValueUndecryptable("the value was encrypted for a key of another size")
        try:
            text = self._key.decrypt(ciphertext, padding.PKCS1v15()).decode("utf-8")
        except ValueError as exc:
            raise ValueUndecryptable("the value was not encrypted for this key") from exc
        if not (len(text) >= _CERTAIN_LENGTH and text.isprintable()) and not self._has_padding(ciphertext):
            raise ValueUndecryptable("the value was not encrypted for this key")
        return text

    def _has_padding(self, ciphertext: bytes) -> bool:
        """Whether the decrypted block is 00 02, eight or more non-zero bytes, 00, text (RFC 8017, 7.2.2).

        OpenSSL from 3.2 on answers a wrong block not with an error but with random bytes ("implicit
        rejection"), which would be set as a customer's password. A dozen printable characters do not come
        about by chance (fewer than one in 10^7 of such values); anything shorter is looked at here, outside
        of OpenSSL. Timing tells nobody anything: the values come from BILLmanager's own tables.
        """
        ciphered, key = int.from_bytes(ciphertext, "big"), self._numbers
        modulo_q = pow(ciphered, key.dmq1, key.q)
        quotient = (pow(ciphered, key.dmp1, key.p) - modulo_q) * key.iqmp % key.p
        block = (modulo_q + quotient * key.q).to_bytes(self._size_bytes, "big")
        return block[:2] == b"\x00\x02" and block.find(b"\x00", 2) >= 2 + 8
