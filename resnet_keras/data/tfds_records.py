"""The files in which TensorFlow Datasets keeps examples, with random access."""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from resnet_keras.errors import InputError

if TYPE_CHECKING:
    from tensorflow_datasets.core.utils.shard_utils import FileInstruction


class Records(Protocol):
    """Examples as bytes, by their places, which `scan` finds."""

    instructions: Sequence["FileInstruction"]

    def __getitem__(self, place: int) -> bytes: ...

    def scan(self, instruction: "FileInstruction") -> Iterator[tuple[int, bytes]]:
        """Reads one file's part in order: places and examples."""
        ...


class TFRecords:
    """TFRecord files, which know no index.

    A record is its length (u64), a checksum of that (u32), the data and a checksum of those (u32).
    A place is the file's number times 2**40 and the offset of the record in it.
    """

    header = struct.Struct("<Q4x")
    footer = 4
    offset_bits = 40

    def __init__(self, instructions: Sequence["FileInstruction"]) -> None:
        self.instructions = instructions

    def __getitem__(self, place: int) -> bytes:
        number, offset = divmod(place, 1 << self.offset_bits)
        path = self.instructions[number].filename
        descriptor = os.open(path, os.O_RDONLY)
        try:
            header = os.pread(descriptor, self.header.size, offset)
            if len(header) == self.header.size:
                (length,) = self.header.unpack(header)
                data = os.pread(descriptor, length, offset + self.header.size)
                if len(data) == length:
                    return data
        finally:
            os.close(descriptor)
        raise InputError(
            "a file of records was truncated while it was in use",
            received=path,
            accepted="the whole file, as TFDS wrote it",
        )

    def scan(self, instruction: "FileInstruction") -> Iterator[tuple[int, bytes]]:
        base = self.instructions.index(instruction) << self.offset_bits
        with open(instruction.filename, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for number in range(instruction.skip + instruction.take):
                offset = file.tell()
                header = file.read(self.header.size)
                length = self.header.unpack(header)[0] if len(header) == self.header.size else size
                if offset + self.header.size + length + self.footer > size:
                    raise InputError(
                        "a file of records is truncated",
                        received=f"{instruction.filename} with {number} records",
                        accepted=f"{instruction.examples_in_shard} records",
                    )
                if number < instruction.skip:
                    file.seek(length + self.footer, os.SEEK_CUR)
                else:
                    yield base + offset, file.read(length)
                    file.seek(self.footer, os.SEEK_CUR)


class ArrayRecords:
    """ArrayRecord files; a place is an index into all of them."""

    chunk = 256

    def __init__(self, instructions: Sequence["FileInstruction"]) -> None:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self.instructions = instructions
        self._source = ArrayRecordDataSource(list(instructions))

    def __getitem__(self, place: int) -> bytes:
        return self._source[place]

    def scan(self, instruction: "FileInstruction") -> Iterator[tuple[int, bytes]]:
        before = self.instructions[: self.instructions.index(instruction)]
        first = count(before)
        places = range(first, first + instruction.take)
        for start in range(0, len(places), self.chunk):
            some = places[start : start + self.chunk]
            yield from zip(some, self._source.__getitems__(some), strict=True)


def image_in(example: bytes, feature: str) -> bytes:
    """The file of the image in a serialised tf.train.Example, as it is stored."""
    return _value(example, feature, "bytes_list")


def label_in(example: bytes, feature: str) -> int:
    """The class index in a serialised tf.train.Example."""
    return _value(example, feature, "int64_list")


def _value(example: bytes, name: str, kind: Literal["bytes_list", "int64_list"]) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        feature = tf_example_pb2.Example.FromString(example).features.feature[name]
        return getattr(feature, kind).value[0]
    except (DecodeError, IndexError) as error:
        raise InputError(
            "a record is damaged",
            received=f"{len(example)} bytes without {name!r}",
            accepted="a tf.train.Example as TFDS writes it: prepare the set again",
        ) from error


def count(instructions: Sequence["FileInstruction"]) -> int:
    """How many examples the parts have together."""
    return sum(part.take for part in instructions)


def cut(
    instructions: Sequence["FileInstruction"], count: int
) -> tuple[list["FileInstruction"], list["FileInstruction"]]:
    """All records but the last `count`, and those."""
    rest, aside = list(instructions), []
    while count > 0:
        last = rest.pop()
        taken = min(last.take, count)
        count -= taken
        aside.insert(0, replace(last, skip=last.skip + last.take - taken, take=taken))
        if taken < last.take:
            rest.append(replace(last, take=last.take - taken))
    return rest, aside


def overlap(one: Sequence["FileInstruction"], other: Sequence["FileInstruction"]) -> bool:
    """Whether some record belongs to both."""
    of_file: dict[str, list[range]] = {}
    for part in one:
        of_file.setdefault(part.filename, []).append(range(part.skip, part.skip + part.take))
    return any(
        max(mine.start, part.skip) < min(mine.stop, part.skip + part.take)
        for part in other
        for mine in of_file.get(part.filename, ())
    )
