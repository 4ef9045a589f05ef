"""Unit tests of the composition root."""
