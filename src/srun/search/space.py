"""The space of a search: which values of a method's block of params.yaml are tried, by the same dotted keys.

A trial is a set of overrides.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from srun.config import config
from srun.errors import ConfigError
from srun.registry import suggest

if TYPE_CHECKING:
    from optuna import Trial

Value = bool | int | float | str | None


@config
class Range:
    """Numbers from ``low`` to ``high``, both included; whole ones where both bounds are."""

    low: int | float
    high: int | float
    scale: Literal["linear", "log"]
    zero: bool
    """Whether 0 is a choice of its own beside the range: on or off, as a logarithm never reaches it."""
    when: dict[str, tuple[Value, ...]]
    """Searched only where another key of the block has one of these values; else left as params.yaml has it."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.low <= 0 and (self.zero or self.scale == "log"):
            raise ValueError(f"low {self.low} must be above 0 for a log scale and where zero is a choice of its own")

    def has(self, value: Any) -> bool:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and (self.low <= value <= self.high or (self.zero and value == 0))


@config
class Choice:
    """One of a list of values."""

    of: tuple[Value, ...]
    when: dict[str, tuple[Value, ...]]

    def has(self, value: Any) -> bool:
        return value in self.of


Domain = Range | Choice


class Space:
    """The searched keys of a block. ``base``: the whole block as params.yaml has it, ``{key: value}``, keys dotted.

    ``prefix`` leads from the root to the block, such as ``unlearn.sruga``. Raises ConfigError for a key that the
    block does not have, and for a condition on a key that is decided later.
    """

    def __init__(self, prefix: str, base: Mapping[str, Any], domains: Mapping[str, Domain]) -> None:
        if not domains:
            raise ConfigError(f"nothing to search: optimize.space has no keys for {prefix}")
        self.prefix, self.base, self.domains = prefix, base, domains
        seen: set[str] = set()
        for key, domain in domains.items():
            for name in (key, *domain.when):
                if name not in base:
                    raise ConfigError(
                        f'optimize.space: "{key}" names no parameter "{prefix}.{name}"{suggest(name, list(base))}'
                    )
            later = [name for name in domain.when if name in domains and name not in seen]
            if later:
                raise ConfigError(f'optimize.space: "{key}" depends on "{later[0]}", which must stand before it')
            seen.add(key)

    def draw(self, trial: "Trial") -> dict[str, Any]:
        """The overrides of a trial, by dotted key from the root."""
        values = dict(self.base)
        for key, domain in self._active(values):
            values[key] = self._value(trial, key, domain)
        return {self._name(key): values[key] for key, _ in self._active(values)}

    def own_settings(self) -> dict[str, Any]:
        """The settings of params.yaml as a sampler sees them, as far as they lie within the space."""
        parameters: dict[str, Any] = {}
        for key, domain in self._active(self.base):
            value = self.base[key]
            if not domain.has(value):
                continue
            if isinstance(domain, Range) and domain.zero:
                parameters[self._switch(key)] = value != 0
            if not (isinstance(domain, Range) and domain.zero and value == 0):
                parameters[self._name(key)] = value
        return parameters

    def keep(self, trial: "Trial") -> dict[str, Any]:
        """The overrides of the method's own settings: none. The sampler is told where they lie (``own_settings``)."""
        for key, domain in self._active(self.base):
            if domain.has(self.base[key]):
                self._value(trial, key, domain)
        return {}

    def _active(self, values: Mapping[str, Any]) -> Iterator[tuple[str, Domain]]:
        """Keys whose condition holds, in order; ``values`` may be filled in between."""
        for key, domain in self.domains.items():
            if all(values[name] in allowed for name, allowed in domain.when.items()):
                yield key, domain

    def _value(self, trial: "Trial", key: str, domain: Domain) -> Any:
        name = self._name(key)
        if isinstance(domain, Choice):
            return trial.suggest_categorical(name, list(domain.of))
        if domain.zero and not trial.suggest_categorical(self._switch(key), [True, False]):
            return 0
        log = domain.scale == "log"
        if isinstance(domain.low, int) and isinstance(domain.high, int):
            return trial.suggest_int(name, domain.low, domain.high, log=log)
        return trial.suggest_float(name, domain.low, domain.high, log=log)

    def _name(self, key: str) -> str:
        return f"{self.prefix}.{key}"

    def _switch(self, key: str) -> str:
        return f"{self._name(key)}.on"
