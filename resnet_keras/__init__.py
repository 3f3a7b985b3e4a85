"""ResNets in Keras: the family of He et al., built, trained, evaluated and reported.

Names are imported on first use, so that the command line answers `--help` without TensorFlow.
"""

import os
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import wrapt

from resnet_keras.version import VERSION

if TYPE_CHECKING:
    from resnet_keras.architectures import NETWORKS, Architecture, list_models
    from resnet_keras.data.arrays import Arrays
    from resnet_keras.errors import InputError
    from resnet_keras.networks.backbones import backbone
    from resnet_keras.networks.blocks import convolutional_block, identity_block
    from resnet_keras.networks.feature_maps import features
    from resnet_keras.networks.layers import BatchNormalization
    from resnet_keras.networks.loading import load_model
    from resnet_keras.networks.models import (
        ResNet18,
        ResNet34,
        ResNet50,
        ResNet101,
        ResNet152,
        build,
        create,
    )
    from resnet_keras.networks.recomputation import recompute
    from resnet_keras.recipes import RECIPES, Recipe
    from resnet_keras.runs.run import Run
    from resnet_keras.training.train import fine_tune, train

__version__ = VERSION

# TensorFlow reads this when it is imported. By itself it leaves oneDNN's kernels off where there is
# no AVX-512, though ResNet-50 trains twice as fast with them there too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

_HOMES = {
    "architectures": ("NETWORKS", "Architecture", "list_models"),
    "networks.backbones": ("backbone",),
    "networks.blocks": ("convolutional_block", "identity_block"),
    "data.arrays": ("Arrays",),
    "errors": ("InputError",),
    "networks.feature_maps": ("features",),
    "networks.layers": ("BatchNormalization",),
    "networks.loading": ("load_model",),
    "networks.models": (
        "ResNet18",
        "ResNet34",
        "ResNet50",
        "ResNet101",
        "ResNet152",
        "build",
        "create",
    ),
    "recipes": ("RECIPES", "Recipe"),
    "networks.recomputation": ("recompute",),
    "runs.run": ("Run",),
    "training.train": ("fine_tune", "train"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "NETWORKS",
    "RECIPES",
    "Architecture",
    "Arrays",
    "BatchNormalization",
    "InputError",
    "Recipe",
    "ResNet18",
    "ResNet34",
    "ResNet50",
    "ResNet101",
    "ResNet152",
    "Run",
    "backbone",
    "build",
    "convolutional_block",
    "create",
    "features",
    "fine_tune",
    "identity_block",
    "list_models",
    "load_model",
    "recompute",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])


@wrapt.when_imported("keras")
def _register_custom_objects(_keras: ModuleType) -> None:
    """Makes keras.saving.load_model know our layers after `import resnet_keras`.

    Keras loads custom classes only once they are registered; this waits for Keras, before or after
    this package, rather than importing it.
    """
    import_module(f"{__name__}.networks.layers")
    import_module(f"{__name__}.training.losses")
    import_module(f"{__name__}.training.optimizers")
    import_module(f"{__name__}.networks.recomputation")
