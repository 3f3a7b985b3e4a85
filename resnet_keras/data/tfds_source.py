"""Image-classification sets that TensorFlow Datasets has prepared on this machine."""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from resnet_keras.data.cache import found_out, stamp
from resnet_keras.data.held_out import SET_ASIDE, SET_ASIDE_AT_MOST
from resnet_keras.data.progress import shown, threads
from resnet_keras.data.splits import (
    EncodedSplit,
    MissingSplitError,
    SplitName,
    split_called,
)
from resnet_keras.data.tfds_records import (
    ArrayRecords,
    Records,
    TFRecords,
    count,
    cut,
    image_in,
    label_in,
    overlap,
)
from resnet_keras.errors import InputError, NotDownloadedError, did_you_mean, first_sentence

if TYPE_CHECKING:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils.shard_utils import FileInstruction

UNLABELLED = -1  # as TFDS marks the images of a contest


class Tfds:
    """A data set of TensorFlow Datasets with one image and one class label an example.

    It is read where TFDS has prepared it, as TFRecord or ArrayRecord files. Only labels and places
    are kept in memory; found once, they are remembered (see cache.py).

        Tfds("cifar10")
        Tfds("imagenet2012", {"validation": "validation", "test": "validation"})

    Splits are those that TFDS has by these names, or by one that means the same, such as "val".
    Without a validation split, the last tenth of the training records (10,000 at most) is set aside
    for it: of CIFAR the papers' 45,000 and 5,000.
    TFDS has shuffled the records. Where there is no test split with labels, as in ImageNet, the
    validation images are the test, and if there are none either, another tenth is set aside.

    Args:
        name: as TFDS spells it, name[/config][:version].
        splits: TFDS's own expressions, such as {"train": "train[:80%]"}, for splits that shall be
            others.

    Attributes:
        notes: a line on splits that are not read, if there are any.

    Raises:
        InputError: tensorflow-datasets is missing, the set is no image-classification set, or the
            training images are also those of another split.
        NotDownloadedError: the set is not prepared; where archives are fetched by hand, it is an
            InputError that says how.
    """

    def __init__(self, name: str, splits: Mapping[SplitName, str] | None = None) -> None:
        self._builder = _prepared(name)
        self._asked = dict(splits or {})
        options = "".join(f",{split}={part}" for split, part in self._asked.items())
        self.name = f"tfds:{name}{options}"
        self._image, self._label = self._features()
        self.class_names = tuple(self._builder.info.features[self._label].names)
        self.notes: tuple[str, ...] = ()
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
        places = found["places"]

        def read(index: int) -> bytes:
            return image_in(records[int(places[index])], self._image)

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

    def _divide(self) -> dict[SplitName, list["FileInstruction"]]:
        """Which part of which file belongs to a split."""
        there = self._builder.info.splits
        named = self._named(there)
        parts = {split: self._part(name) for split, name in {**named, **self._asked}.items()}
        if "train" not in parts:
            raise InputError(
                f"{self.name} has no split to train on",
                received=", ".join(there),
                accepted=f"{self.name},train=SPLIT",
            )
        train, validation = parts["train"], parts.get("validation")
        aside = int(min(SET_ASIDE * count(train), SET_ASIDE_AT_MOST))
        test = parts.get("test")
        if not test or ("test" not in self._asked and not self._is_labelled(test)):
            if validation is not None and "validation" not in self._asked:
                test, validation = validation, None
            else:
                train, test = cut(train, aside)
        if validation is None:
            train, validation = cut(train, aside)
        for split, part in (("validation", validation), ("test", test)):
            if overlap(train, part):
                raise InputError(
                    f"images to train on are {split} images too",
                    received=self.name,
                    accepted=f"separate parts, such as train=train[:90%] and {split}=train[90%:]",
                )
        read = [*named.values(), *self._asked.values()]
        if left := [name for name in there if not any(name in part for part in read)]:
            self.notes = (f"splits that are not read: {', '.join(left)}",)
        return {"train": train, "validation": validation, "test": test}

    def _named(self, there: Collection[str]) -> dict[SplitName, str]:
        """The set's own splits by what they are for; names that are ours go first."""
        named: dict[SplitName, str] = {}
        for name in there:
            split = split_called(name)
            if split is None or split in self._asked or (split in there and name != split):
                continue
            if split in named:
                raise InputError(
                    f"{self.name} has two splits of {split} images",
                    received=f"{named[split]}, {name}",
                    accepted=f"{self.name},{split}={name} or the other one",
                )
            named[split] = name
        return named

    def _part(self, expression: str) -> list["FileInstruction"]:
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

    def _records(self, instructions: Sequence["FileInstruction"]) -> Records:
        from tensorflow_datasets.core.file_adapters import FileFormat

        form = self._builder.info.file_format
        if form == FileFormat.TFRECORD:
            return TFRecords(instructions)
        if form == FileFormat.ARRAY_RECORD:
            return ArrayRecords(instructions)
        raise InputError(
            f"the files of {self.name} have no random access",
            received=form,
            accepted="tfrecord, array_record",
        )

    def _is_labelled(self, instructions: Sequence["FileInstruction"]) -> bool:
        first = next(iter(self._records(instructions).scan(instructions[0])))[1]
        return label_in(first, self._label) != UNLABELLED


def _found(records: Records, label: str) -> dict[str, np.ndarray]:
    """Reads every record once, for its place and its label."""

    def of_file(instruction: "FileInstruction") -> np.ndarray:
        rows = [(place, label_in(example, label)) for place, example in records.scan(instruction)]
        return np.array(rows, np.int64).reshape(-1, 2)

    tables = []
    total = count(records.instructions)
    with shown("reading the labels", total) as done, threads() as pool:
        for table in pool.map(of_file, records.instructions):
            tables.append(table)
            done(len(table))
    table = np.concatenate(tables)
    return {"places": table[:, 0], "labels": table[:, 1]}


def _prepared(name: str) -> "tfds.core.DatasetBuilder":
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
    prepare = f"tfds.builder({json.dumps(name)}, data_dir={json.dumps(folder)})"
    if getattr(tfds.builder_cls(plain), "MANUAL_DOWNLOAD_INSTRUCTIONS", None):
        return InputError(
            "the TFDS set is not prepared yet",
            received=f"tfds:{name}, which is not in {folder}",
            accepted=f"the set after its archives are in {folder}/downloads/manual, where you put "
            f"them, and {prepare}.download_and_prepare() was called in Python",
        )
    return NotDownloadedError(
        received=f"tfds:{name}, which is not in {folder}",
        accepted=f"--download, or in Python {prepare}.download_and_prepare()",
        download=partial(_download, name, folder),
    )


def _download(name: str, folder: str) -> None:
    import tensorflow_datasets as tfds

    try:
        tfds.builder(name, data_dir=folder).download_and_prepare()
    except Exception as error:  # each dataset's code has errors of its own
        raise InputError(
            "the dataset cannot be downloaded",
            received=f"tfds:{name} ({first_sentence(error)})",
            accepted=f"a connection, or the prepared dataset in {folder}",
        ) from error
