"""What the parameters of all chapters share: one schema a chapter, checked before any work."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wsnlib import specs

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Density = Annotated[float, Field(gt=0, le=1)]

_IPYTHON_NAMES = {"In", "Out", "exit", "quit", "get_ipython", "open"}
_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


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
    validation_size: NonNegativeInt = Field(0, description="an integer of at least 0")
    device: str = Field("auto", description="'auto', 'cpu' or 'cuda'")
    budget_minutes: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        5.0, description="a number of minutes of at least 0"
    )
    download: bool = Field(False, description="true or false")

    @classmethod
    def read(cls, namespace: Mapping[str, Any]) -> Self:
        """The parameters among the variables of a notebook, `read(globals())`.

        Called first in a notebook, when its only plain variables are parameters, it refuses
        unknown ones; called again later it reads those it knows.

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
            name: value
            for name, value in namespace.items()
            if isinstance(value, _PLAIN) and not name.startswith("_") and name not in _IPYTHON_NAMES
        }
        unknown = [name for name in given if name not in cls.model_fields]
        if unknown and not again:
            near = difflib.get_close_matches(unknown[0], cls.model_fields, n=1)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"the parameters are {', '.join(cls.model_fields)}"
            )
            raise ValueError(f"{unknown[0]!r} is not a parameter of this chapter; {hint}")
        try:
            return cls.model_validate({name: given[name] for name in given if name in cls.model_fields})
        except ValidationError as error:
            raise ValueError(cls._sentence(error)) from None

    @classmethod
    def _sentence(cls, error: ValidationError) -> str:
        first = error.errors()[0]
        if not first["loc"]:  # raised below, as a sentence already
            return str(first["ctx"]["error"])
        name, *place = first["loc"]
        allowed = cls.model_fields[str(name)].description
        position = "".join(f"[{p}]" for p in place if isinstance(p, int))
        hint = ""
        if isinstance(first["input"], str) and _is_number(first["input"]):
            hint = (
                f" (it is text; in YAML write {float(first['input'])!r} without quotes, and 1.0e-3, not 1e-3)"
            )
        return f"{name}{position} is {first['input']!r}; {allowed} is allowed{hint}"

    @property
    def chapter(self) -> str:
        """Name of the notebook that these are the parameters of: that of the module of their class."""
        return type(self).__module__.rpartition(".")[2]

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
            raise ValueError("validation_size is 0; at least 1 is allowed with preset 'clean'")
        size["validation_size"] = self.validation_size if self.preset == "clean" else 0
        known = {
            "digits": specs.Digits,
            "mnist": specs.MNIST,
            "fashion_mnist": specs.FashionMNIST,
            "cifar10": specs.CIFAR10,
            "cifar100": specs.CIFAR100,
            "svhn": specs.SVHN,
            "imagenet": specs.ImageNet,
        }
        if name in known:
            return known[name](**size)
        if self.data_sha256 is None:
            raise ValueError(
                f"data is {name!r}; one of {', '.join(map(repr, known))} is allowed, or the name of "
                "packed data together with data_sha256"
            )
        return specs.PackedData(name=name, sha256=self.data_sha256, **size)

    @property
    def _report(self) -> Literal["best_test", "best_validation"]:
        """The epoch whose accuracy counts, which is what the presets differ in."""
        return "best_test" if self.preset == "faithful" else "best_validation"

    def _check_widths(self, widths: list[int], base_width: int) -> None:
        if base_width not in widths:
            raise ValueError(f"widths is {widths}; a list that holds the base width {base_width} is allowed")
        if min(widths) < base_width:
            raise ValueError(
                f"widths holds {min(widths)}; integers of at least the base width {base_width} are allowed"
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
