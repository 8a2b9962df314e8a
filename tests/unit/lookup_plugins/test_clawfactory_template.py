"""Our lookup renders as Ansible's own does; a difference would make every bot's containers anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader, lookup_loader
from ansible.template import Templar, trust_as_template

REPOSITORY = Path(__file__).resolve().parents[3]
TEXT = """# {{ name }}
{% for item in items %}
  {{ item | regex_replace('^(.)', '\\1-') }}
{% endfor %}
{% if nested %}
{{ nested }} = {{ nested | length }}
{% endif %}
[1, 2]

"""


@pytest.fixture(scope="module", autouse=True)
def _plugins():
    init_plugin_loader()
    lookup_loader.add_directory(str(REPOSITORY / "lookup_plugins"))


def render(lookup: str, path: Path, **variables: object) -> str:
    templar = Templar(loader=DataLoader(), variables={"path": str(path), **variables})
    return templar.template(trust_as_template(f"{{{{ lookup('{lookup}', path) }}}}"))


@pytest.mark.parametrize("text", [TEXT, "{{ items }}", "plain", "", "{{ name }}\n", "\\d {{ '\\n' }}\n"])
def test_text_is_the_one_of_the_builtin_lookup(tmp_path, text):
    path = tmp_path / "file.j2"
    path.write_text(text)
    variables = {"name": "bot1", "items": ["a", "b"], "nested": trust_as_template("{{ name }}-x")}
    assert render("clawfactory_template", path, **variables) == render("ansible.builtin.template", path, **variables)


def test_undefined_variable_and_absent_file_are_errors(tmp_path):
    path = tmp_path / "file.j2"
    path.write_text("{{ nowhere }}")
    with pytest.raises(AnsibleError, match="nowhere"):
        render("clawfactory_template", path)
    with pytest.raises(AnsibleError, match=r"absent\.j2"):
        render("clawfactory_template", tmp_path / "absent.j2")


def test_variables_cannot_bring_templates_of_their_own(tmp_path):
    path = tmp_path / "file.j2"
    path.write_text("{{ name }}")
    assert render("clawfactory_template", path, name="{{ 1 + 1 }}") == "{{ 1 + 1 }}"
