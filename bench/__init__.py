"""Measurements against the raw library below: `python -m bench [NAME …]` prints a table; nothing here is a test."""
