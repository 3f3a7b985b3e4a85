"""What a source of weights, a file or a model, has for a network."""

from dataclasses import dataclass, replace
from typing import Self

from resnet_keras.architectures import Architecture
from resnet_keras.architectures.layer_names import is_classifier
from resnet_keras.weights.layouts import Weights


@dataclass(frozen=True)
class LoadedWeights:
    """What a source has for a network.

    Attributes:
        source: a file's path, or a model's name.
        architecture: of the network as the weights want it: with the preprocessing and the epsilon
            that they were trained with.
        weights: by layer, in the order of get_weights.
        class_names: of the classifier, in the order of its outputs; None if they are not known.
        activation: of the classifier: "softmax", "sigmoid" or "linear".
        input_shape: of a model of this package, (height, width, channels), which may be open; None
            of other sources.
        centre: of the view, which a model of this package may know.
        include_preprocessing: whether the source normalises pixels 0..255 itself.
    """

    source: str
    architecture: Architecture
    weights: Weights
    class_names: tuple[str, ...] | None = None
    activation: str = "softmax"
    input_shape: tuple[int | None, int | None, int] | None = None
    centre: float | None = None
    include_preprocessing: bool = True

    @property
    def classes(self) -> int | None:
        """How many the classifier tells apart; None if there is none."""
        for name, values in self.weights.items():
            if is_classifier(name):
                return len(values[-1])
        return None

    def without_classifier(self) -> Self:
        trunk = {name: values for name, values in self.weights.items() if not is_classifier(name)}
        return replace(self, weights=trunk, class_names=None)

    def for_classes(self, class_names: tuple[str, ...]) -> Self:
        """Without the classifier, if it tells other classes apart; unnamed ones are counted."""
        if self.class_names is None:
            same = self.classes == len(class_names)
        else:
            same = self.class_names == class_names
        return self if same else self.without_classifier()
