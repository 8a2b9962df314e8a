"""Lookup of the control node: what is wrong with the variables of several roles, asked for by one task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.common.yaml import yaml_load
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: clawfactory_argument_errors
short_description: Variables that are not of the kind that roles say they are
description:
  - Compares the variables of a bot with the entry point C(main) of several roles.
  - C(ansible.builtin.validate_argument_spec) does that too, and tells the whole specification with what is wrong.
  - Returns the validator's messages, none if all is well.
options:
  _terms:
    description: Absolute paths of roles on the control node.
    required: true
"""


class LookupModule(LookupBase):  # type: ignore[misc] # ansible-core has no type information
    """One text for each variable that is of a wrong kind."""

    def run(self, terms: list[Any], variables: Any = None, **kwargs: Any) -> list[str]:
        """Messages of the validator, in its order."""
        spec: dict[str, Any] = {}
        for role in terms:
            text = (Path(role) / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
            # Ansible's own loader remembers of each word where it stood, and takes ten times as long.
            spec.update(yaml_load(text)["argument_specs"]["main"]["options"])
        given = self._templar.template({name: variables[name] for name in spec if name in variables})
        return list(ArgumentSpecValidator(spec).validate(given, validate_role_argument_spec=True).error_messages)
