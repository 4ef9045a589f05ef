"""Quota by quota_gb, of the service or of its plan."""

from __future__ import annotations

from states.model import UNLIMITED, FaultField
from tests.integration.bm_db.conftest import BillingUnderTest

EXACT = (
    ("100", 107374182400),
    ("1000", 1073741824000),
    ("1.5", 1610612736),
    ("1.44", 1546188227),  # 1546188226.56: a started byte is a whole one
    ("1.46484375", 1572864000),
    (" 10 ", 10737418240),
    ("0", 0),
    ("8589934591", 9223372035781033984),
)


def test_gigabytes_are_exact(spec: BillingUnderTest) -> None:
    for text, quota_bytes in EXACT:
        assert spec.read(spec.sell(text)).quota == quota_bytes, text


def test_explicit_words_mean_unlimited(spec: BillingUnderTest) -> None:
    for text in ("-1", "none", "None", "UNLIMITED", " unlimited "):
        service = spec.read(spec.sell(text))
        assert (service.quota, service.faults) == (UNLIMITED, ())


def test_blank_is_not_there(spec: BillingUnderTest) -> None:
    for text in ("", "   "):
        service = spec.read(spec.sell(text))
        assert service.quota is None
        assert "no quota found" in service.faults[0].message


BAD_NUMBERS = ("abc", "-2", "1,5", "10 GB", "1e3", "0x10", "NaN", "inf", "9" * 41, "8589934592", "٣")


def test_what_is_not_a_number_of_gigabytes_is_a_fault(spec: BillingUnderTest) -> None:
    for text in BAD_NUMBERS:
        item_id = spec.sell(text)
        service = spec.read(item_id)
        [fault] = service.faults
        assert service.quota is None, text
        assert fault.field is FaultField.QUOTA
        assert fault.message.startswith(f"service {item_id}: ")


def test_service_goes_before_its_plan(spec: BillingUnderTest) -> None:
    assert spec.read(spec.sell("10", quota_gb="3")).quota == 3 * 1024**3
    assert spec.read(spec.sell("10", quota_gb=" ")).quota == 10 * 1024**3


def test_unreadable_quota_of_the_service_is_not_replaced_by_the_plans(spec: BillingUnderTest) -> None:
    assert spec.read(spec.sell("10", quota_gb="lots")).quota is None


def test_null_is_not_there(spec: BillingUnderTest) -> None:
    item_id = spec.sell("10")
    spec.sandbox.insert("itemparam", item=item_id, intname="quota_gb", value=None)
    assert spec.read(item_id).quota == 10 * 1024**3


def test_two_rows_that_differ_are_a_fault_and_equal_ones_are_one(spec: BillingUnderTest) -> None:
    same, differing = spec.sell("10", quota_gb="3"), spec.sell("10", quota_gb="3")
    spec.sandbox.insert("itemparam", item=same, intname="quota_gb", value="3")
    spec.sandbox.insert("itemparam", item=differing, intname="quota_gb", value="4")
    assert spec.read(same).quota == 3 * 1024**3
    assert "different values" in spec.read(differing).faults[0].message
