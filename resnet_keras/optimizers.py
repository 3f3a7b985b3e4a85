"""SGD as the papers mean it, and its learning rate over time."""

from typing import Any

import keras
from keras import ops

from resnet_keras.recipes import Recipe


@keras.saving.register_keras_serializable(package="resnet_keras")
class SGD(keras.optimizers.SGD):
    """keras.optimizers.SGD with an L2 term added to the gradient before momentum.

    Both papers' "weight decay" is this term, on every parameter. Keras's own `weight_decay` shrinks
    the weights beside the update and bypasses momentum: at momentum 0.9 it is about ten times
    weaker.
    """

    def __init__(self, *args: Any, l2: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        if self.l2:
            gradient = ops.add(gradient, ops.multiply(self.l2, variable))
        if self.momentum and _is_one_tensorflow_replica():
            self._apply_fused(gradient, variable, learning_rate)
        else:
            super().update_step(gradient, variable, learning_rate)

    def _apply_fused(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Keras's update in one pass over the memory instead of five."""
        import tensorflow as tf

        momentum = self.momentums[self._get_variable_index(variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,  # Keras hands TensorFlow's own variable to update_step
            accum=momentum.value.handle,
            lr=ops.cast(learning_rate, variable.dtype),
            grad=ops.cast(gradient, variable.dtype),
            momentum=ops.cast(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}


def _is_one_tensorflow_replica() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync == 1


@keras.saving.register_keras_serializable(package="resnet_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Grows the learning rate linearly to `peak` over `steps`, then follows `after` from its start.

    The first step already takes peak / steps. (Goyal et al. 2017, section 2.2.)
    """

    def __init__(
        self, peak: float, steps: int, after: keras.optimizers.schedules.LearningRateSchedule
    ) -> None:
        self.peak = peak
        self.steps = steps
        self.after = after

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rising = self.peak * (step + 1.0) / max(self.steps, 1)
        following = ops.cast(self.after(ops.maximum(step - self.steps, 0.0)), "float32")
        return ops.where(step < self.steps, rising, following)

    def get_config(self) -> dict[str, Any]:
        after = keras.saving.serialize_keras_object(self.after)
        return {"peak": self.peak, "steps": self.steps, "after": after}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        after = keras.saving.deserialize_keras_object(config["after"])
        return cls(config["peak"], config["steps"], after)


def schedule(
    recipe: Recipe, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The recipe's learning rate as a function of the training step."""
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total)
    if recipe.decay == "cosine":
        after = keras.optimizers.schedules.CosineDecay(
            recipe.learning_rate, decay_steps=max(total - warmup, 1)
        )
    else:
        # The boundaries count from the first step of training, the schedule from the warm-up's end.
        # PiecewiseConstantDecay still holds the old value at the boundary itself.
        boundaries = [round(at * total) - warmup - 1 for at in recipe.decay_at]
        values = [recipe.learning_rate * recipe.decay_factor**i for i in range(len(boundaries) + 1)]
        after = keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)
    return WarmUp(recipe.learning_rate, warmup, after)


def optimizer(
    recipe: Recipe, steps_per_epoch: int, loss_scaling: bool = False
) -> keras.optimizers.Optimizer:
    """The recipe's optimizer, its learning rate a schedule.

    Args:
        loss_scaling: whether to scale the loss, as float16 needs. Keras's `compile` would do it
            too, but a model that is loaded again under another global policy would lose it.
    """
    sgd = SGD(schedule(recipe, steps_per_epoch), momentum=recipe.momentum, l2=recipe.l2)
    return keras.optimizers.LossScaleOptimizer(sgd) if loss_scaling else sgd
