"""Arrays of arrays in npz files, as Sketch-RNN's data are published, read without running anything that is in them.

NumPy writes an array of objects as a pickle, which can hold any program. Here nothing but arrays is ever made of it.
"""

from __future__ import annotations

import io
import lzma
import pickle
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from hybridgen.data.errors import DataError

_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        if name == "_reconstruct":
            return _reconstruct
        return super().find_class(module, name)


def _reconstruct(subtype: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """What NumPy's function of this name does for plain arrays."""
    return np.ndarray.__new__(np.ndarray, shape, dtype)


def read_object_arrays(path: Path) -> dict[str, list[np.ndarray]]:
    """Read an npz file whose members are arrays of arrays, or plain ones (whose first axis is then taken apart).

    Returns:
        By name of the member, its arrays, of whatever shape they are stored in.

    Raises:
        DataError: It is no npz file, damaged, or holds something other than arrays.
    """
    try:
        with zipfile.ZipFile(path) as file:
            found = {}
            for member in file.namelist():
                if member.endswith(".npy"):
                    found[member[:-4]] = _read_member(file.read(member))
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError):
        raise DataError(f"{path} is no npz file, or damaged: get another copy") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}): give an npz file") from None
    except RuntimeError as error:  # zipfile's, for what is encrypted, and recursion without an end
        raise DataError(f"{path} cannot be read ({_first_line(error)}): use another file") from None
    except (MemoryError, OverflowError):
        raise DataError(f"{path} says of an array that it is larger than memory: get another copy") from None
    except (
        *(pickle.UnpicklingError, tokenize.TokenError, SyntaxError),
        *(ValueError, TypeError, EOFError, AttributeError, KeyError, IndexError),
    ) as error:
        raise DataError(f"{path} holds something that is no array ({_first_line(error)}): use another file") from None
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _read_member(content: bytes) -> list[np.ndarray]:
    stream = io.BytesIO(content)
    version = npy.read_magic(stream)
    header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    _, _, dtype = header(stream)
    if dtype.hasobject:
        array = _ArraysOnly(stream, encoding="latin1").load()
    else:
        array = npy.read_array(io.BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.ndim < 1:
        raise ValueError(f"a member is of type {type(array).__name__}")
    return [np.asarray(part) for part in array]
