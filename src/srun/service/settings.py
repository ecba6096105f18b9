"""A service root: the folder of a service that carries out deletion requests, and the paths in it."""

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from srun.errors import CheckpointError, ConfigError
from srun.files import SUMS, read_json, sha256, write_text
from srun.names import SERVICE_FILE, name_fault


@dataclass(frozen=True)
class Settings:
    """What a service was made as; nothing in it ever changes."""

    service: str
    """A random name: its keys lie under it."""
    data: str
    """The data set's name."""
    original: str
    """The entry of `originals` that is served."""
    time: str
    """``unix``, or ``order`` for a log without times."""
    ledger: str
    """Address of the ledger's database; empty for ledger.db in the root."""
    keys_sha256: str
    """Fingerprint of the key."""


@dataclass(frozen=True)
class ServiceRoot:
    """The folder of a service."""

    folder: Path
    settings: Settings

    @classmethod
    def open(cls, folder: Path) -> "ServiceRoot":
        """The service in a folder; raises ConfigError where there is none."""
        file = folder / SERVICE_FILE
        if not file.is_file():
            raise ConfigError(
                f"{folder.resolve()}: no service here ({SERVICE_FILE} is missing); make one with `srun service init DIR"
                " --data NAME`, or name it with --service DIR"
            )
        values = read_json(file, ConfigError, "restore it from a copy")
        try:
            settings = Settings(**values)
        except TypeError as error:
            raise ConfigError(f"{file}: not written by this version of srun ({error})") from error
        if fault := name_fault(settings.data, "data set"):
            raise ConfigError(f"{file}: data {ascii(settings.data)[:60]}: {fault}")
        return cls(folder.resolve(), settings)

    def write(self) -> None:
        """Mark the folder as a service root."""
        write_text(self.folder / SERVICE_FILE, json.dumps(asdict(self.settings), indent=1) + "\n")

    @property
    def params(self) -> Path:
        """Every parameter of the service."""
        return self.folder / "params.yaml"

    @property
    def raw(self) -> Path:
        """The log as it is kept: users by keys, forgotten events out of it."""
        return self.folder / "data" / "raw" / self.settings.data

    def next_raw(self, batch: str) -> Path:
        """The log as it will be kept once a batch is promoted."""
        return self.folder / "data" / "next" / batch / self.settings.data

    def chain(self, number: int) -> Path:
        """Prepared data, partitions and models from one anchor on."""
        return self.folder / "chains" / str(number)

    @property
    def inbox(self) -> Path:
        """What requests name, by users' keys, until they are completed."""
        return self.folder / "inbox"

    @property
    def receipts(self) -> Path:
        return self.folder / "receipts"

    @property
    def served(self) -> Path:
        """A link to the model that is served."""
        return self.folder / "served"

    @property
    def lock(self) -> Path:
        """Held by whoever carries out requests."""
        return self.folder / "runs" / "service"

    @property
    def ledger_url(self) -> str:
        """Address of the ledger's database."""
        return self.settings.ledger or f"sqlite:///{self.folder / 'ledger.db'}"


def new_service_name(data: str) -> str:
    """A random name for a service of a data set."""
    return f"{data}-{secrets.token_hex(4)}"


def model_digest(folder: Path) -> str:
    """The sha256 of a model folder: of the list of its files' checksums; CheckpointError where it is not there."""
    try:
        return sha256(folder / SUMS)
    except OSError as error:
        raise CheckpointError(f"{folder}: the model is not there ({error.strerror}); restore it from a copy") from error


def point_to(root: ServiceRoot, model: str) -> None:
    """Let the link ``served`` lead to a model's folder, given from the root, in one step."""
    if root.served.is_symlink() and os.readlink(root.served) == model:
        return
    new = root.served.with_name(f".{root.served.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(model)
    os.replace(new, root.served)
