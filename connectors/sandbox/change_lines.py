"""How the lines of a change name people."""

from __future__ import annotations


def masked(email: str) -> str:
    """An address of which only the first letter and the domain are shown: `a***@example.com`."""
    name, _, domain = email.partition("@")
    return f"{name[:1]}***@{domain}"
