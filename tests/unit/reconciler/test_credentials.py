"""The passwords of new accounts."""

from __future__ import annotations

import string

from reconciler.credentials import PASSWORD_LENGTH, generate_password

SPECIAL = set("!#%+-.:=?@_")


def test_password_has_twenty_characters_and_one_of_each_class() -> None:
    for _ in range(500):
        password = generate_password()
        assert len(password) == PASSWORD_LENGTH == 20
        characters = set(password)
        for kind in (string.ascii_lowercase, string.ascii_uppercase, string.digits, SPECIAL):
            assert characters & set(kind)
        assert characters <= set(string.ascii_letters + string.digits) | SPECIAL


def test_no_two_passwords_are_alike() -> None:
    assert len({generate_password() for _ in range(500)}) == 500


def test_classes_stand_anywhere_in_the_password() -> None:
    passwords = [generate_password() for _ in range(500)]
    for place in range(PASSWORD_LENGTH):
        letters = {password[place] for password in passwords}
        assert letters & set(string.ascii_lowercase)
        assert letters & set(string.digits)
        assert letters & SPECIAL
