"""YAML files of the inventory that people edit, too: comments stay, and a vault is never plain on the disk."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, get_file_vault_secret, is_encrypted
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import YAMLError

from clawfactory_core.errors import InvalidInput
from clawfactory_core.files import write_atomic


def vault_of(password: bytes) -> VaultLib:
    """What opens and closes vaults with this password."""
    return VaultLib([("default", VaultSecret(password))])


def password_in(file: str) -> bytes:
    """The password in a file, or printed by the program that it is, as Ansible reads it.

    :raises InvalidInput: there is none.
    """
    try:
        secret = get_file_vault_secret(filename=file, loader=DataLoader())
        secret.load()
    except AnsibleError as error:
        raise InvalidInput(f"{file}: no password of the vault can be read: {error}") from None
    return bytes(secret.bytes)


class Document:
    """A YAML file, read once.

    :param vault: for a file that is encrypted as a whole.
    :raises InvalidInput: it is no mapping, or not encrypted as it should be, or the password is another one.
    """

    def __init__(self, path: Path, vault: VaultLib | None = None) -> None:
        self.path = path
        self._vault = vault
        self._yaml = YAML()
        self._yaml.explicit_start = True
        self._yaml.preserve_quotes = True
        self._yaml.width = 120
        self._yaml.indent(mapping=2, sequence=4, offset=2)
        self._before = self._read()
        try:
            self.data: Any = self._yaml.load(self._before or "---\n{}\n")
        except YAMLError as error:
            # Of a vault, the message would show a line.
            shown = "" if vault else f": {error}"
            raise InvalidInput(f"{path} is no YAML{shown}; correct it first") from None
        if self.data is None:
            self.data = self._yaml.load("{}")
        if not isinstance(self.data, CommentedMap):
            raise InvalidInput(f"{path} has no variables but a {type(self.data).__name__}; correct it first")
        self.data.fa.set_block_style()

    def _read(self) -> str:
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return ""
        if self._vault is None:
            return raw.decode()
        if not is_encrypted(raw):
            raise InvalidInput(
                f"{self.path} is not encrypted; do that first: .venv/bin/ansible-vault encrypt {self.path}"
            )
        try:
            return bytes(self._vault.decrypt(raw)).decode()
        except AnsibleError:
            raise InvalidInput(f"{self.path} cannot be opened with this password of the vault") from None

    def save(self) -> bool:
        """Write it, if anything differs.

        :returns: whether it was written.
        :raises OSError: it could not be; the file is as it was.
        """
        text = StringIO()
        self._yaml.dump(self.data, text)
        if text.getvalue() == self._before or (not self.data and not self._before):
            return False
        content = text.getvalue().encode()
        if self._vault is not None:
            content = self._vault.encrypt(content) + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        mode = None if self.path.exists() else 0o600 if self._vault is not None else 0o644
        write_atomic(self.path, content, mode=mode)
        self._before = text.getvalue()
        return True
