"""Keys of a service: the secret that pseudonyms are made with, and who is behind each of its users.

Both lie outside the service root and every checkout, to be backed up apart from the ledger: whoever has the key can try
every id. Users have random keys of 12 letters in all that a service stores; one file leads from raw ids to them.
"""

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from srun.errors import ConfigError, RunError
from srun.files import read_json, write_text
from srun.service.settings import ServiceRoot

VARIABLE = "SRUN_KEYS"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
LENGTH = 12
VERSION = "srun-1"


@dataclass(frozen=True)
class Keys:
    """The key of a service, and what is made with it."""

    secret: bytes
    data: str
    """The data set, which enters every pseudonym."""
    folder: Path
    service: str

    @classmethod
    def create(cls, service: str, data: str) -> "Keys":
        """A new key of a service, written readable for its owner only."""
        folder = keys_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise RunError(
                f"{folder}: cannot be written ({error.strerror}); name another folder with {VARIABLE}"
            ) from error
        keys = cls(secrets.token_bytes(32), data, folder, service)
        write_private(keys.key_file, keys.secret.hex() + "\n")
        keys.write_users({})
        return keys

    @classmethod
    def load(cls, root: ServiceRoot) -> "Keys":
        """The key of a service; raises ConfigError where it is not here, or is another."""
        settings = root.settings
        keys = cls(b"", settings.data, keys_folder(), settings.service)
        file = keys.key_file
        try:
            secret = bytes.fromhex(file.read_text(encoding="ascii").strip())
        except FileNotFoundError as error:
            raise ConfigError(
                f"{file}: the key of this service is not here, and without it nobody can tell who asked to be"
                f" forgotten; bring it back, or name its folder with {VARIABLE}"
            ) from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file}: cannot be read as a key; restore it from a copy") from error
        keys = cls(secret, settings.data, keys.folder, settings.service)
        if keys.fingerprint != settings.keys_sha256:
            raise ConfigError(
                f"{file}: is not the key that this service was made with (its fingerprint differs from the one in"
                f" {root.folder / 'service.json'}); restore it from a copy"
            )
        return keys

    @property
    def key_file(self) -> Path:
        return self.folder / f"{self.service}.key"

    @property
    def users_file(self) -> Path:
        return self.folder / f"{self.service}.users.json"

    @property
    def fingerprint(self) -> str:
        """sha256 of the key, by which another is noticed."""
        return hashlib.sha256(b"srun key" + self.secret).hexdigest()

    def pseudonym(self, kind: str, *ids: str) -> str:
        """HMAC-SHA256 over version, data set, kind and ids, each with its length before it."""
        return self.sign(b"".join(_framed(text) for text in (VERSION, self.data, kind, *ids)))

    def sign(self, message: bytes) -> str:
        """HMAC-SHA256 of a message."""
        return hmac.digest(self.secret, message, "sha256").hex()

    def read_users(self) -> dict[str, str]:
        """Raw id -> key of 12 letters, of every user that the service knows."""
        values = read_json(self.users_file, ConfigError, "restore it from a copy")
        return {str(raw): str(key) for raw, key in values.items()}

    def write_users(self, users: dict[str, str]) -> None:
        """Replace the map as a whole."""
        write_private(self.users_file, json.dumps(users, ensure_ascii=False, indent=0) + "\n")

    def remove_users(self, gone: Iterable[str]) -> None:
        """Take users out of the map, by their keys: nothing leads back from a key then."""
        left_out = set(gone)
        users = self.read_users()
        if left_out & set(users.values()):
            self.write_users({raw: key for raw, key in users.items() if key not in left_out})


def keys_folder() -> Path:
    """Where keys lie: SRUN_KEYS, or srun/keys of the user's configuration folder."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "srun" / "keys"


def new_user_key(taken: set[str]) -> str:
    """A random key of 12 letters that no other user has."""
    while True:
        key = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
        if key not in taken:
            return key


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from its first byte on."""
    before = os.umask(0o077)
    try:
        write_text(path, text)
    finally:
        os.umask(before)


def _framed(text: str) -> bytes:
    content = text.encode()
    return len(content).to_bytes(4, "big") + content
