"""The index of a release in memory: columns of ``index.parquet``, a row at a time."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from univs.schema import IndexRow, Task, index_row_from_dict

COLUMNS = tuple(field.name for field in fields(IndexRow))


class IndexRows(Sequence[IndexRow]):
    """The rows of ``index.parquet``, kept as columns and made into ``IndexRow`` one at a time."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = {name: table.column(name).combine_chunks() for name in COLUMNS}
        self._length = int(table.num_rows)
        self._made: tuple[int, IndexRow] | None = None

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> IndexRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[IndexRow]: ...
    def __getitem__(self, index: int | slice) -> IndexRow | list[IndexRow]:
        """Make one row, or the list of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._length))]
        if not -self._length <= index < self._length:
            raise IndexError(f"row {index} of an index of {self._length}")
        place, made = index % self._length, self._made
        if made is None or made[0] != place:
            values = {name: column[place].as_py() for name, column in self._columns.items()}
            self._made = made = (place, index_row_from_dict(values))
        return made[1]

    def column(self, name: str) -> list[Any]:
        """Give one column as a list."""
        values: list[Any] = self._columns[name].to_pylist()
        return values

    def numbers(self, name: str) -> NDArray[np.int64]:
        """Give one column of whole numbers as an array."""
        return np.asarray(self._columns[name].to_numpy(zero_copy_only=False), dtype=np.int64)

    def size_of(self, index: int) -> tuple[int, int]:
        """Give height and width of a row without making it."""
        return self._columns["height"][index].as_py(), self._columns["width"][index].as_py()

    def usable_for(self, task: Task) -> NDArray[np.int64]:
        """List the rows that have something to prompt with; detection also learns from empty ones."""
        match task:
            case "detection":
                return np.arange(self._length)
            case "sot":
                return np.flatnonzero(self.numbers("num_objects"))
            case "grounding":
                return np.flatnonzero(self.numbers("num_objects") * self.numbers("num_expressions"))

    def neighbor(self, index: int, distance: int) -> int | None:
        """Give the row of the chunk ``distance`` chunks later in the same item; ``None`` beyond its ends."""
        if self._columns["chunk_count"][index].as_py() == 1:
            return None
        item_id, chunk = self._columns["item_id"][index].as_py(), self._columns["chunk_index"][index].as_py()
        return self._chunk_rows.get((item_id, chunk + distance))

    @cached_property
    def _chunk_rows(self) -> dict[tuple[str, int], int]:
        """Rows of the items that are stored as several chunks."""
        rows = np.flatnonzero(self.numbers("chunk_count") > 1).tolist()
        items, chunks = self._columns["item_id"], self._columns["chunk_index"]
        return {(items[row].as_py(), chunks[row].as_py()): row for row in rows}
