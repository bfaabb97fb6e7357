"""What the parameters of all chapters share: one schema a chapter, checked before any work."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wsnlib import specs
from wsnlib.data.sources import KNOWN
from wsnlib.specs.checks import plain
from wsnlib.store import repository

PositiveInt = Annotated[int, Field(ge=1, description="an integer ≥ 1")]
NonNegativeInt = Annotated[int, Field(ge=0, description="an integer ≥ 0")]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False, description="a number > 0")]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False, description="a number ≥ 0")]
Density = Annotated[float, Field(gt=0, le=1, description="a number > 0 and ≤ 1")]
Flag = Annotated[bool, Field(description="true or false")]
Seeds = Annotated[list[NonNegativeInt], Field(min_length=1, description="a list of integers ≥ 0")]
TrainSize = Annotated[
    PositiveInt | None, Field(description="an integer ≥ 1, or null for all training images")
]
Precision = Annotated[Literal["float32", "bfloat16"], Field(description="'float32' or 'bfloat16'")]

_IPYTHON_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}
_NO_RESULT_DEPENDS_ON = {"device", "budget_minutes", "download"}
_PLAIN = (bool, int, float, str, list, tuple, dict, type(None), np.generic, np.ndarray)


class ChapterParameters(BaseModel):
    """What all chapters share; checked strictly: no unknown name, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    profile: Literal["smoke", "cpu", "gpu", "paper"] = Field(
        "smoke", description="'smoke', 'cpu', 'gpu' or 'paper'"
    )
    preset: Literal["faithful", "clean"] = Field("faithful", description="'faithful' or 'clean'")
    data: str = Field(
        "digits", min_length=1, description="'digits', 'mnist', 'fashion_mnist' or a packed name"
    )
    data_sha256: str | None = Field(None, description="the checksum of data packed by wsn.pack_data, or null")
    validation_size: NonNegativeInt = 0
    device: str = Field("auto", description="'auto', 'cpu' or 'cuda'")
    budget_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        5.0, description="a number of minutes ≥ 0"
    )
    download: Flag = False

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for name, value in self:
            plain_list = isinstance(value, list) and all(isinstance(v, int | float | str) for v in value)
            if plain_list and len(set(value)) < len(value):
                raise ValueError(f"{name} must hold no value twice, got {value}; name each once")
        return self

    @classmethod
    def read(cls, namespace: Mapping[str, Any]) -> Self:
        """The parameters among the variables of a notebook, `read(globals())`.

        Called first in a notebook, when its only plain variables are parameters, it refuses
        unknown ones; called again later it reads those it knows. Numbers and arrays of numpy are plain.

        Raises:
            ValueError: In one sentence, with the value and what is allowed.

        Examples:
            >>> from wsnlib.book import sparse_mlp
            >>> sparse_mlp.Parameters.read({"epochs": 3, "widths": [5, 10]}).widths
            [5, 10]
            >>> sparse_mlp.Parameters.read({"epoch": 3})
            Traceback (most recent call last):
            ValueError: 'epoch' is not a parameter of this chapter; did you mean 'epochs'?
        """
        again = any(isinstance(value, ChapterParameters) for value in namespace.values())
        given = {
            name: _each(plain, value)
            for name, value in namespace.items()
            if (isinstance(value, _PLAIN) or (name in cls.model_fields and not again))
            and not name.startswith("_")
            and name not in _IPYTHON_NAMES
        }
        unknown = [name for name in given if name not in cls.model_fields]
        if unknown and not again:
            near = difflib.get_close_matches(unknown[0], cls.model_fields, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"the parameters are {', '.join(cls.model_fields)}"
            )
            raise ValueError(f"{unknown[0]!r} is not a parameter of this chapter; {hint}")
        known = {name: given[name] for name in given if name in cls.model_fields}
        try:
            return cls.model_validate(known)
        except ValidationError as error:
            raise ValueError(cls._sentence(error, known)) from None

    @classmethod
    def _sentence(cls, error: ValidationError, given: Mapping[str, Any]) -> str:
        first = error.errors()[0]
        if not first["loc"]:  # raised below, as a sentence already
            return str(first["ctx"]["error"])
        name, *place = first["loc"]
        allowed = cls.model_fields[str(name)].description
        value = given.get(str(name))
        for meant in _readings(value):
            if cls._accepts(str(name), meant, given):
                written = yaml.safe_dump(meant, default_flow_style=True, width=math.inf).split("\n")[0]
                return (
                    f"{name} must be {allowed}, got {value!r}; in YAML write `{name}: {written}`, "
                    f"in Python `{name} = {meant!r}`"
                )
        position = "".join(f"[{p}]" for p in place if isinstance(p, int))
        return f"{name}{position} must be {allowed}, got {first['input']!r}"

    @classmethod
    def _accepts(cls, name: str, value: Any, given: Mapping[str, Any]) -> bool:
        """Whether nothing is wrong with a value, whatever may be with those of other names."""
        try:
            cls.model_validate({**given, name: value})
        except ValidationError as error:
            return all(each["loc"][:1] not in ((), (name,)) for each in error.errors())
        return True

    @property
    def chapter(self) -> str:
        """Name of the notebook that these are the parameters of, that of the module of their class."""
        return type(self).__module__.rpartition(".")[2]

    def changed(self) -> dict[str, Any] | None:
        """Values that are not those of the profile's file, by name; None if the file is not here.

        What no result depends on (the device, the budget, leave to download) does not count.
        """
        root = repository()
        file = None if root is None else root / "params" / f"{self.chapter}.{self.profile}.yml"
        if file is None or not file.exists():
            return None
        meant = type(self).read(yaml.safe_load(file.read_text(encoding="utf-8"))).model_dump()
        return {
            name: value
            for name, value in self.model_dump().items()
            if value != meant[name] and name not in _NO_RESULT_DEPENDS_ON
        }

    @property
    def same_data(self) -> bool:
        """Whether the data are those of the paper; a chapter that rebuilds none has no such data."""
        return False

    @property
    def full_protocol(self) -> bool:
        """Whether the whole training of the paper is followed."""
        return False

    def _data_spec(self, *, name: str | None = None, **size: Any) -> specs.DataSpec:
        """The data set; only the clean preset sets validation images aside."""
        name = self.data if name is None else name
        if self.preset == "clean" and self.validation_size == 0:
            raise ValueError("validation_size must be ≥ 1 with preset 'clean', got 0")
        size["validation_size"] = self.validation_size if self.preset == "clean" else 0
        known = {one.name: spec for spec, one in KNOWN.items()}
        if name in known:
            return known[name](**size)
        if self.data_sha256 is None:
            raise ValueError(
                f"data must be one of {', '.join(map(repr, known))}, or the name of packed data together "
                f"with data_sha256, got {name!r}"
            )
        return specs.PackedData(name=name, sha256=self.data_sha256, **size)

    def _training(self, **given: Any) -> specs.Training:
        """The protocol by the parameters that have the name of one of its fields, and by what is given."""
        names = {field.name for field in fields(specs.Training)} & type(self).model_fields.keys()
        return specs.Training(**{name: getattr(self, name) for name in names} | given)

    @property
    def _report(self) -> Literal["best_test", "best_validation"]:
        """The epoch whose accuracy counts, which is what the presets differ in."""
        return "best_test" if self.preset == "faithful" else "best_validation"

    def _check_widths(self, widths: list[int], base_width: int) -> None:
        if base_width not in widths:
            raise ValueError(f"widths must be a list that holds the base width {base_width}, got {widths}")
        if min(widths) < base_width:
            raise ValueError(
                f"widths must be integers of at least the base width {base_width}, got {min(widths)}"
            )


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """A value changed, and so everything in it if it is a list or a mapping."""
    value = change(value)
    if isinstance(value, dict):
        return {name: _each(change, each) for name, each in value.items()}
    return type(value)(_each(change, each) for each in value) if type(value) in (list, tuple) else value


def _readings(value: Any) -> Iterator[Any]:
    """What a value may have been meant as."""
    value = list(value) if isinstance(value, tuple | range | set) else value
    for change in (_unquoted, _number, _whole):
        meant = _each(change, value)
        yield from (meant, [meant])
    if isinstance(value, int | float):
        yield str(value)


def _unquoted(value: Any) -> Any:
    with suppress(yaml.YAMLError):
        return None if value == "None" else yaml.safe_load(value) if isinstance(value, str) else value
    return value


def _number(value: Any) -> Any:
    """`1e-3` is text in YAML."""
    with suppress(TypeError, ValueError):
        return float(value) if isinstance(value, str) else value
    return value


def _whole(value: Any) -> Any:
    number = _number(value)
    return int(number) if isinstance(number, float) and number.is_integer() else value
