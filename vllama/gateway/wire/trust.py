"""Whose certificates are believed when a server is called: those that this machine trusts."""

import ssl
from functools import cache


@cache
def trust() -> ssl.SSLContext:
    """Reads some hundred certificates the first time. SSL_CERT_FILE and SSL_CERT_DIR name others."""
    return ssl.create_default_context()
