"""Who may ask a server of ours: whoever is on this machine, or who has its token.

A server listens on a loopback address unless it is told otherwise, and on any other only with a token, that
every request then brings as `Authorization: Bearer …`. Tokens are compared in constant time, so that how long
a refusal takes tells nothing of how much of a guess was right.
"""

import hmac
import ipaddress

AUTHORIZATION = "Authorization"


class Exposed(ValueError):
    """A server was to listen where others reach it, without a token."""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def bearer(token: str) -> str:
    """Value of the header that brings a token."""
    return f"Bearer {token}"


def admits(token: str, header: str) -> bool:
    """Whether a request with such a header may be answered; any may where there is no token.

    >>> [admits("s3cret", header) for header in ("Bearer s3cret", "Bearer s3cre", "s3cret", "")]
    [True, False, False, False]
    """
    return not token or hmac.compare_digest(header.encode(), bearer(token).encode())


def check_exposure(what: str, host: str, token: str, variable: str) -> None:
    """Refuse to listen beyond this machine without a token.

    Parameters
    ----------
    what : str
        The server, as the message names it.
    variable : str
        Environment variable that gives the token.

    Raises
    ------
    Exposed
        If others reach the address, and there is no token.
    """
    if not (token or is_loopback(host)):
        msg = f"{what}: expected a loopback address or a token ({variable}), was {host} without one"
        raise Exposed(msg)
