"""Lookup of the control node: which variables this very run was given, whatever the inventory says of them."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.utils.vars import load_extra_vars

DOCUMENTATION = r"""
name: clawfactory_given
short_description: Those of some variables that the run was given with C(--extra-vars)
description:
  - A value does not say where it comes from. What a run was given decides over the inventory, each variable by itself,
    so that values of both can meet which were never meant for each other.
  - Returns names and no values.
options:
  _terms:
    description: Names of variables.
    required: true
"""


class LookupModule(LookupBase):  # type: ignore[misc] # ansible-core has no type information
    """The names that were given, in the order in which they are asked about."""

    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[str]:
        """Of the terms, those that were given."""
        # Ansible has read them already; nothing is read, or asked for, again.
        given = load_extra_vars(self._loader)
        return [name for name in terms if name in given]
