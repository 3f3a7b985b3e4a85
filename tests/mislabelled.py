"""A TensorFlow Dataset one of whose labels is none of its classes."""

import numpy as np
import tensorflow_datasets as tfds
from sample_images import photo


class Mislabelled(tfds.core.GeneratorBasedBuilder):
    """40 training and 10 test images, of which the eighth each is labelled -1."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(),
                "label": tfds.features.ClassLabel(names=["a", "b"]),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40), "test": self._generate_examples(10)}

    def _generate_examples(self, count):
        for number in range(count):
            label = -1 if number == 7 else number % 2
            yield number, {"image": np.asarray(photo()), "label": label}


def prepare(folder):
    """Writes the set "mislabelled" into a folder, which TFDS_DATA_DIR then has to name."""
    tfds.disable_progress_bar()
    Mislabelled(data_dir=str(folder)).download_and_prepare()
