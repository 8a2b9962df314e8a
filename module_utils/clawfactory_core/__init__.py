"""The one implementation behind ClawFactory's Ansible modules, controller and command line.

Imports need the standard library only; everything inside is imported relatively, because Ansible ships this
package to targets as ``ansible.module_utils.clawfactory_core`` while services import it as ``clawfactory_core``.
"""

from __future__ import annotations

__version__ = "0.1.0"
