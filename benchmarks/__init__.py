"""Measurements; each module prints its figures and what they are measured against."""
