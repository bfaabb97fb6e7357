"""Matrices of similarities in a record: three decimals, as small integers that compress well."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

UNITS = 1000
"""A thousandth of 1; rounding moves a number by 0.0005 at most, where other images move CKA by some 0.01."""
_NAN = -32_768


def packed(values: npt.ArrayLike) -> Bytes:
    """Numbers from −32 to 32, rounded to three decimals, as two planes of bytes; NaN stays NaN.

    Kept are the differences between one row and the next, small where neighbouring layers are alike.

    Examples:
        >>> packed([[1, 0.5], [0.25, float("nan")]]).shape
        (2, 4)
    """
    return _planes(np.diff(_rounded(values), axis=0, prepend=np.int16(0)).ravel())


def unpacked(planes: npt.NDArray[Any], *shape: int) -> Array:
    """What `packed` packed.

    Examples:
        >>> unpacked(packed([[1, 0.5], [0.25, float("nan")]]), 2, 2)
        array([[1.  , 0.5 ],
               [0.25,  nan]])
    """
    return _numbers(_of_planes(planes).reshape(shape).cumsum(0, dtype=np.int16))


def packed_symmetric(values: npt.ArrayLike) -> Bytes:
    """The same of a symmetric matrix, by what stands above the diagonal of its differences along both axes.

    Examples:
        >>> packed_symmetric([[1, 0.5], [0.5, 1]]).shape
        (2, 3)
    """
    rows = np.diff(_rounded(values), axis=0, prepend=np.int16(0))  # modulo 2¹⁶, and so exact
    found = np.diff(rows, axis=1, prepend=np.int16(0))
    return _planes(found[np.triu_indices(len(found))])


def unpacked_symmetric(planes: npt.NDArray[Any]) -> Array:
    """What `packed_symmetric` packed.

    Examples:
        >>> unpacked_symmetric(packed_symmetric([[1, 0.5], [0.5, 1]]))
        array([[1. , 0.5],
               [0.5, 1. ]])
    """
    upper = _of_planes(planes)
    n = int((2 * len(upper)) ** 0.5)
    found = np.zeros((n, n), np.int16)
    found[np.triu_indices(n)] = upper
    found.T[np.triu_indices(n)] = upper
    return _numbers(found.cumsum(0, dtype=np.int16).cumsum(1, dtype=np.int16))


def _rounded(values: npt.ArrayLike) -> npt.NDArray[np.int16]:
    given = np.asarray(values, dtype=np.float64)
    if np.nanmax(np.abs(given), initial=0) > 32:
        raise ValueError(f"values must lie from −32 to 32, got {np.nanmax(np.abs(given)):g}")
    return np.where(np.isnan(given), _NAN, np.round(UNITS * np.nan_to_num(given))).astype(np.int16)


def _numbers(integers: npt.NDArray[np.int16]) -> Array:
    return np.where(integers == _NAN, np.nan, integers / UNITS)


def _planes(integers: npt.NDArray[np.int16]) -> Bytes:
    """All low bytes, then all high ones, after moving the sign to the lowest bit."""
    small = ((integers << 1) ^ (integers >> 15)).astype("<u2")
    return np.ascontiguousarray(small.view(np.uint8).reshape(-1, 2).T)


def _of_planes(planes: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    small = np.ascontiguousarray(planes.astype(np.uint8).T).view("<u2").ravel()
    return ((small >> 1) ^ (0 - (small & 1)).astype(np.uint16)).astype(np.int16)
