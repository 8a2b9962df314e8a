"""Lookup of the control node: a rendered template. Ansible's own copies every variable first, facts included."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible.template import trust_as_template

DOCUMENTATION = r"""
name: clawfactory_template
short_description: Render a template with the variables as they are
description: Like C(ansible.builtin.template), without its options and C(ansible_managed), in a small part of the time.
options:
  _terms:
    description: Absolute path of a template on the control node.
    required: true
"""


class LookupModule(LookupBase):  # type: ignore[misc] # ansible-core has no type information
    """One text for each term."""

    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[str]:
        """Rendered texts, in the order of the terms."""
        sources = [self._loader.get_text_file_contents(self._loader.get_real_file(term)) for term in terms]
        return [self._templar.template(trust_as_template(text), escape_backslashes=False) for text in sources]
