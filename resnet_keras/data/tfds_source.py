"""Image-classification sets that TensorFlow Datasets has prepared on this machine."""

import json
import os
import shlex
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from resnet_keras.data.cache import found_out, stamp
from resnet_keras.data.folder import SET_ASIDE, SET_ASIDE_AT_MOST
from resnet_keras.data.progress import shown, threads
from resnet_keras.data.splits import SPLIT_NAMES, EncodedSplit, MissingSplitError, SplitName
from resnet_keras.errors import InputError, did_you_mean

UNLABELLED = -1  # as TFDS marks the images of a contest


class Tfds:
    """A data set of TensorFlow Datasets with one image and one class label an example.

    It is read where TFDS has prepared it, never downloaded, as TFRecord or ArrayRecord files. Only
    labels and places are kept in memory; found once, they are remembered (see cache.py).

        Tfds("cifar10")
        Tfds("imagenet2012", {"validation": "validation", "test": "validation"})

    Splits are those that TFDS has by these names. Without a validation split, the last tenth of the
    training records (10,000 at most) is set aside for it: of CIFAR the papers' 45,000 and 5,000.
    TFDS has shuffled the records. Where there is no test split with labels, as in ImageNet, the
    validation images are the test, and if there are none either, another tenth is set aside.

    Args:
        name: as TFDS spells it, name[/config][:version].
        splits: TFDS's own expressions, such as {"train": "train[:80%]"}, for splits that shall be
            others.

    Raises:
        InputError: tensorflow-datasets is missing, the set is not prepared (the error gives the
            command that does it), is no image-classification set, or the training images are
            also those of another split.
    """

    def __init__(self, name: str, splits: Mapping[SplitName, str] | None = None) -> None:
        self._builder = _prepared(name)
        self._asked = dict(splits or {})
        options = "".join(f",{split}={part}" for split, part in self._asked.items())
        self.name = f"tfds:{name}{options}"
        self._image, self._label = self._features()
        self.class_names = tuple(self._builder.info.features[self._label].names)
        self._instructions = self._divide()

    @property
    def image_size(self) -> int:
        height, width, _ = self._builder.info.features[self._image].shape
        return min(height, width) if height and width else self.load("train").typical_size()

    def load(self, split: SplitName) -> EncodedSplit:
        instructions = self._instructions[split]
        if not instructions:
            raise MissingSplitError(
                f"{self.name} has no {split} images",
                received=repr(split),
                accepted=f"{self.name},{split}=PART",
            )
        files = stamp(instruction.filename for instruction in instructions)
        parts = [(part.filename, part.skip, part.take) for part in instructions]
        mark = f"tfds {self._image} {self._label} {parts} {files}"
        records = self._records(instructions)
        found = found_out(mark, ("labels", "places"), lambda: _found(records, self._label))
        records.places = found["places"]

        def read(index: int) -> bytes:
            return _value(records[index], self._image, "bytes_list")

        return EncodedSplit(read, found["labels"], stamp=mark)

    def _features(self) -> tuple[str, str]:
        """The names of the image and of its label."""
        import tensorflow_datasets as tfds

        features = dict(self._builder.info.features)
        images = [
            name
            for name, feature in features.items()
            if isinstance(feature, tfds.features.Image)
            and not isinstance(feature, tfds.features.LabeledImage)
            and np.issubdtype(feature.np_dtype, np.unsignedinteger)
        ]
        labels = [
            name
            for name, feature in features.items()
            if isinstance(feature, tfds.features.ClassLabel) and feature.num_classes
        ]
        supervised = self._builder.info.supervised_keys or ()
        if len(supervised) == 2 and supervised[0] in images and supervised[1] in labels:
            return supervised[0], supervised[1]
        if len(images) != 1 or len(labels) != 1:
            kinds = ", ".join(f"{name} ({type(part).__name__})" for name, part in features.items())
            raise InputError(
                f"{self.name} is not of images with one class each",
                received=kinds,
                accepted="one Image and one ClassLabel",
            )
        return images[0], labels[0]

    def _divide(self) -> dict[SplitName, list[Any]]:
        """Which part of which file belongs to a split."""
        there = self._builder.info.splits
        if "train" not in self._asked and "train" not in there:
            raise InputError(
                f"{self.name} has no split to train on",
                received=", ".join(there),
                accepted=f"{self.name},train=SPLIT",
            )
        names = {split: self._asked.get(split, split) for split in SPLIT_NAMES}
        parts = {
            split: self._part(name)
            for split, name in names.items()
            if split in self._asked or name in there
        }
        train, validation = parts["train"], parts.get("validation")
        aside = int(min(SET_ASIDE * _count(train), SET_ASIDE_AT_MOST))
        test = parts.get("test")
        if test is None or ("test" not in self._asked and not self._is_labelled(test)):
            if validation is not None and "validation" not in self._asked:
                test, validation = validation, None
            else:
                train, test = _cut(train, aside)
        if validation is None:
            train, validation = _cut(train, aside)
        for split, part in (("validation", validation), ("test", test)):
            if _overlap(train, part):
                raise InputError(
                    f"images to train on are {split} images too",
                    received=self.name,
                    accepted=f"separate parts, such as train=train[:90%] and {split}=train[90%:]",
                )
        return {"train": train, "validation": validation, "test": test}

    def _part(self, expression: str) -> list[Any]:
        there = self._builder.info.splits
        try:
            return [part for part in there[expression].file_instructions if part.take > 0]
        except (ValueError, KeyError, AssertionError) as error:
            raise InputError(
                f"{self.name} has no such split",
                received=repr(expression),
                accepted=f"{', '.join(there)}, their sums (train+test) "
                "and parts (train[:80%], train[:45000])",
            ) from error

    def _records(self, instructions: Sequence[Any]) -> "_Records":
        from tensorflow_datasets.core.file_adapters import FileFormat

        form = self._builder.info.file_format
        if form == FileFormat.TFRECORD:
            return _TFRecords(instructions)
        if form == FileFormat.ARRAY_RECORD:
            return _ArrayRecords(instructions)
        raise InputError(
            f"the files of {self.name} have no random access",
            received=form,
            accepted="tfrecord, array_record",
        )

    def _is_labelled(self, instructions: Sequence[Any]) -> bool:
        first = next(iter(self._records(instructions).scan(instructions[0])))[1]
        return _value(first, self._label, "int64_list") != UNLABELLED


class _Records(Protocol):
    """Examples as bytes, by index, once `places` are known."""

    instructions: Sequence[Any]
    places: np.ndarray

    def __getitem__(self, index: int) -> bytes: ...

    def scan(self, instruction: Any) -> Iterator[tuple[int, bytes]]:
        """Reads one file's part in order: places and examples."""
        ...


class _TFRecords:
    """TFRecord files, which know no index.

    A record is its length (u64), a checksum of that (u32), the data and a checksum of those (u32).
    A place is the file's number times 2**40 and the offset of the record in it.
    """

    header = struct.Struct("<Q4x")
    footer = 4
    offset_bits = 40

    def __init__(self, instructions: Sequence[Any]) -> None:
        self.instructions = instructions
        self.places = np.empty(0, np.int64)

    def __getitem__(self, index: int) -> bytes:
        number, offset = divmod(int(self.places[index]), 1 << self.offset_bits)
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

    def scan(self, instruction: Any) -> Iterator[tuple[int, bytes]]:
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


class _ArrayRecords:
    """ArrayRecord files; a place is an index into all of them."""

    chunk = 256

    def __init__(self, instructions: Sequence[Any]) -> None:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        self.instructions = instructions
        self.places = np.empty(0, np.int64)
        self._source = ArrayRecordDataSource(list(instructions))

    def __getitem__(self, index: int) -> bytes:
        return self._source[int(self.places[index])]

    def scan(self, instruction: Any) -> Iterator[tuple[int, bytes]]:
        before = self.instructions[: self.instructions.index(instruction)]
        first = _count(before)
        places = range(first, first + instruction.take)
        for start in range(0, len(places), self.chunk):
            some = places[start : start + self.chunk]
            yield from zip(some, self._source.__getitems__(some), strict=True)


def _found(records: _Records, label: str) -> dict[str, np.ndarray]:
    """Reads every record once, for its place and its label."""

    def of_file(instruction: Any) -> np.ndarray:
        rows = [
            (place, _value(example, label, "int64_list"))
            for place, example in records.scan(instruction)
        ]
        return np.array(rows, np.int64).reshape(-1, 2)

    tables = []
    total = _count(records.instructions)
    with shown("reading the labels", total) as done, threads() as pool:
        for table in pool.map(of_file, records.instructions):
            tables.append(table)
            done(len(table))
    table = np.concatenate(tables)
    return {"places": table[:, 0], "labels": table[:, 1]}


def _value(example: bytes, name: str, kind: str) -> Any:
    """One value of a tf.train.Example, as it is stored: nothing is decoded."""
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


def _count(instructions: Sequence[Any]) -> int:
    return sum(part.take for part in instructions)


def _cut(instructions: Sequence[Any], count: int) -> tuple[list[Any], list[Any]]:
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


def _overlap(one: Sequence[Any], other: Sequence[Any]) -> bool:
    of_file: dict[str, list[range]] = {}
    for part in one:
        of_file.setdefault(part.filename, []).append(range(part.skip, part.skip + part.take))
    return any(
        max(mine.start, part.skip) < min(mine.stop, part.skip + part.take)
        for part in other
        for mine in of_file.get(part.filename, ())
    )


def _prepared(name: str) -> Any:
    """TFDS's view of a set on disk."""
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise InputError(
            "TFDS sets need tensorflow-datasets",
            received=f"tfds:{name} ({error.name} is not installed)",
            accepted="pip install 'resnet-keras[tensorflow]'",
        ) from error
    # As it is now, not as it was when TFDS was imported.
    folder = os.environ.get("TFDS_DATA_DIR") or os.path.expanduser("~/tensorflow_datasets")
    try:
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=folder)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise _not_prepared(name, folder) from error
    except (ValueError, OSError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise InputError(
            "the TFDS set cannot be read",
            received=f"tfds:{name} in {folder} ({first_line})",
            accepted="tfds:NAME[/CONFIG][:VERSION]",
        ) from error


def _not_prepared(name: str, folder: str) -> InputError:
    import tensorflow_datasets as tfds

    plain = name.partition("/")[0].partition(":")[0]
    known = tfds.list_builders(with_community_datasets=False)
    if plain not in known:
        near = did_you_mean(f"tfds:{plain}", [f"tfds:{one}" for one in known])
        return InputError(
            "no such TFDS set",
            received=f"tfds:{name}",
            accepted=f"a set that TFDS lists or has prepared in {folder}{near}",
        )
    by_hand = getattr(tfds.builder_cls(plain), "MANUAL_DOWNLOAD_INSTRUCTIONS", None)
    first = f" (its archives first go by hand to {folder}/downloads/manual)" if by_hand else ""
    code = (
        "import tensorflow_datasets as tfds; "
        f"tfds.builder({json.dumps(name)}, data_dir={json.dumps(folder)}).download_and_prepare()"
    )
    command = shlex.join([sys.executable, "-c", code])
    return InputError(
        "the TFDS set is not downloaded yet",
        received=f"tfds:{name}, which is not in {folder}",
        accepted=f"the set that this command downloads and prepares{first}: {command}",
    )
