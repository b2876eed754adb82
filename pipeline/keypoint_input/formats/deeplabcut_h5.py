"""Tables of DeepLabCut as pandas writes them to HDF5 (format ``table``), read by h5py.

pandas itself would run what is pickled in them: names of columns come by
:mod:`gridpose.unpickle`, which runs nothing. Links to other files are not followed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from gridpose.core import InputError, MissingError
from gridpose.pipeline.keypoint_input.formats.csv_cells import Rows

_TABLE: Final = "table"
_VALUES: Final = "values_block_0"
_HEADINGS: Final = {
    3: ("scorer", "bodyparts", "coords"),
    4: ("scorer", "individuals", "bodyparts", "coords"),
}
_MOST_BYTES: Final = 1 << 31


def rows_of_h5(file: Path) -> Rows:
    """The rows, headings included, that DeepLabCut's CSV of the same table has.

    Raises:
        MissingError: h5py is not installed.
        InputError: damaged, too large, or no table of DeepLabCut.
    """
    try:
        import h5py
    except ImportError as error:
        raise MissingError(
            f"{file}: is HDF5, which needs h5py: pip install h5py; or let DeepLabCut write a .csv "
            "(save_as_csv=True)"
        ) from error
    try:
        with h5py.File(file, "r") as content:
            return _rows(file, content, h5py.HardLink, h5py.Dataset)
    except (OSError, KeyError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(f"{file}: damaged HDF5 ({error})") from error


def _rows(file: Path, content: Any, hard_link: type, dataset: type) -> Rows:
    for name in content:
        group_link = content.get(name, getlink=True)
        if not isinstance(group_link, hard_link) or isinstance(content[name], dataset):
            continue
        group = content[name]
        if _TABLE in group and isinstance(group.get(_TABLE, getlink=True), hard_link):
            return _rows_of(file, group[_TABLE])
    raise InputError(f"{file}: no table of DeepLabCut in it; let it write a .csv")


def _rows_of(file: Path, table: Any) -> Rows:
    from gridpose import unpickle

    if table.dtype.names is None or _VALUES not in table.dtype.names or table.ndim != 1:
        raise InputError(f"{file}: no table of DeepLabCut in it; let it write a .csv")
    if table.nbytes > _MOST_BYTES or table.is_virtual or table.external:
        raise InputError(f"{file}: its table is too large, or in another file")
    kind = table.attrs[f"{_VALUES}_kind"]
    columns = unpickle.loads(bytes(kind), str(file))
    depth = len(columns[0]) if isinstance(columns, list) and columns else 0
    values = table[:]
    numbers = values[_VALUES].reshape(len(values), -1)
    if depth not in _HEADINGS or any(len(column) != depth for column in columns):
        raise InputError(f"{file}: columns are not DeepLabCut's; let it write a .csv")
    if len(columns) != numbers.shape[1]:
        raise InputError(f"{file}: has {len(columns)} names of {numbers.shape[1]} columns")
    headings = [
        [heading, *(str(column[level]) for column in columns)]
        for level, heading in enumerate(_HEADINGS[depth])
    ]
    index = values["index"] if "index" in values.dtype.names else range(len(values))
    rows = [
        [str(int(place)), *("" if value != value else repr(value) for value in row)]
        for place, row in zip(index, numbers.astype(float).tolist(), strict=True)
    ]
    return [*headings, *rows]
