"""age keys by pyrage (https://pypi.org/project/pyrage/)."""

from __future__ import annotations

from ..errors import MissingDependency


def make_key_pair() -> tuple[str, str]:
    """A new X25519 key pair: ``("AGE-SECRET-KEY-1…", "age1…")``.

    :raises MissingDependency: pyrage cannot be imported.
    """
    try:
        from pyrage import x25519
    except ImportError as error:
        raise MissingDependency("pyrage") from error
    identity = x25519.Identity.generate()
    return str(identity), str(identity.to_public())
