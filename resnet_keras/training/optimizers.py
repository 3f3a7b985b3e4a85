"""SGD as the papers mean it, LAMB, and their learning rate over time."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from resnet_keras.recipes import Recipe


class _Shared(keras.optimizers.Optimizer):
    """Settings of both optimizers, to stand before Keras's class among the bases.

    `rate_factors` are of the trainable variables in their order, none if all have the same.
    """

    def __init__(
        self,
        *args: Any,
        l2: float = 0.0,
        l2_on_bn: bool = True,
        kernel_decay: float = 0.0,
        rate_factors: Sequence[float] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.l2 = l2
        self.l2_on_bn = l2_on_bn
        self.kernel_decay = kernel_decay
        self.rate_factors = tuple(rate_factors)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "l2": self.l2,
            "l2_on_bn": self.l2_on_bn,
            "kernel_decay": self.kernel_decay,
            "rate_factors": self.rate_factors,
        }

    def _with_l2(self, gradient: Any, variable: Any) -> Any:
        """The gradient in the variable's dtype, the L2 term added to it."""
        gradient = ops.cast(gradient, variable.dtype)
        if not self.l2 or (not self.l2_on_bn and self._is_of_normalization(variable)):
            return gradient
        return ops.add(gradient, ops.multiply(self.l2, variable))

    def _is_of_normalization(self, variable: Any) -> bool:
        index = self._get_variable_index(variable)  # pyright: ignore[reportAttributeAccessIssue]
        # Keras hands a backend's own variable to update_step, which may not know the name.
        known: Any = self._trainable_variables  # pyright: ignore[reportAttributeAccessIssue]
        return known[index].name in ("gamma", "beta")

    def _rate(self, learning_rate: Any, variable: Any) -> Any:
        rate = ops.cast(learning_rate, variable.dtype)
        if not self.rate_factors:
            return rate
        index = self._get_variable_index(variable)  # pyright: ignore[reportAttributeAccessIssue]
        return rate * self.rate_factors[index]


def _is_kernel(variable: Any) -> bool:
    return len(variable.shape) > 1


def _norm(x: Any) -> Any:
    return ops.sqrt(ops.sum(ops.square(x)))


@keras.saving.register_keras_serializable(package="resnet_keras")
class SGD(_Shared, keras.optimizers.SGD):
    """keras.optimizers.SGD with an L2 term added to the gradient before momentum.

    Both papers' "weight decay" is this term, on every parameter. Keras's own `weight_decay` shrinks
    the weights beside the update and bypasses momentum: at momentum 0.9 it is about ten times
    weaker.

    Args:
        l2: factor of that term.
        l2_on_bn: whether the gamma and beta of batch normalisation have it, too.
        kernel_decay: factor of decoupled weight decay, of kernels alone (biases and batch
            normalisation have one dimension).
        momentum_correction: whether the momentum follows changes of the learning rate (Goyal et al.
            2017, remark 2).
        rate_factors: by which each variable's learning rate is multiplied.
    """

    def __init__(self, *args: Any, momentum_correction: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.momentum_correction = momentum_correction

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = self._rate(learning_rate, variable)
        gradient = self._with_l2(gradient, variable)
        if self.kernel_decay and _is_kernel(variable):
            self.assign_sub(variable, ops.multiply(rate * self.kernel_decay, variable))
        if not self.momentum:
            self.assign_sub(variable, ops.multiply(rate, gradient))
            return
        momentum = ops.cast(self.momentum, variable.dtype)
        if self.momentum_correction:
            momentum = momentum * ops.cast(self._change_of_rate(), variable.dtype)
        update = self._apply_fused if _is_one_tensorflow_replica() else self._apply
        update(gradient, variable, rate, momentum)

    def _change_of_rate(self) -> Any:
        """The learning rate over that of the update before."""
        if not isinstance(self._learning_rate, keras.optimizers.schedules.LearningRateSchedule):
            return 1.0
        before = self._learning_rate(ops.maximum(self.iterations - 1, 0))
        return self._learning_rate(self.iterations) / before

    def _apply(self, gradient: Any, variable: Any, rate: Any, momentum: Any) -> None:
        velocity = self.momentums[self._get_variable_index(variable)]
        step = ops.multiply(rate, gradient)
        self.assign(velocity, ops.subtract(ops.multiply(velocity, momentum), step))
        if self.nesterov:
            self.assign_add(variable, ops.subtract(ops.multiply(velocity, momentum), step))
        else:
            self.assign_add(variable, velocity)

    def _apply_fused(self, gradient: Any, variable: Any, rate: Any, momentum: Any) -> None:
        """The same in one pass over the memory instead of five."""
        import tensorflow as tf

        velocity = self.momentums[self._get_variable_index(variable)]
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,  # Keras hands TensorFlow's own variable to update_step
            accum=velocity.value.handle,
            lr=rate,
            grad=gradient,
            momentum=momentum,
            use_nesterov=self.nesterov,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "momentum_correction": self.momentum_correction}


@keras.saving.register_keras_serializable(package="resnet_keras")
class LAMB(_Shared, keras.optimizers.Lamb):
    """keras.optimizers.Lamb with the weight decay inside the trust ratio (You et al. 2020).

    The paper's algorithm 2 adds the decay to the update before the ratio of the norms is taken;
    Keras's `weight_decay` stands outside. As in the code that Wightman et al. 2021 trained with,
    biases and batch normalisation have neither decay nor ratio.

    Args:
        l2: factor of a term that is added to the gradient of every parameter.
        l2_on_bn: whether the gamma and beta of batch normalisation have it, too.
        kernel_decay: factor of the decay, of kernels alone.
        rate_factors: by which each variable's learning rate is multiplied.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = self._rate(learning_rate, variable)
        gradient = self._with_l2(gradient, variable)
        update = self._direction(gradient, variable)
        if _is_kernel(variable):
            update = ops.add(update, ops.multiply(self.kernel_decay, variable))
            weight_norm, update_norm = _norm(variable), _norm(update)
            known = ops.logical_and(weight_norm > 0, update_norm > 0)
            rate = rate * ops.where(known, weight_norm / ops.maximum(update_norm, 1e-12), 1.0)
        self.assign_sub(variable, ops.multiply(rate, update))

    def _direction(self, gradient: Any, variable: Any) -> Any:
        """Adam's: the mean of the gradients over the root of their squares'."""
        step = ops.cast(self.iterations + 1, variable.dtype)
        index = self._get_variable_index(variable)
        moments = []
        for average, value, beta in (
            (self._momentums[index], gradient, self.beta_1),
            (self._velocities[index], ops.square(gradient), self.beta_2),
        ):
            self.assign_add(average, ops.multiply(ops.subtract(value, average), 1 - beta))
            moments.append(ops.divide(average, 1 - ops.power(ops.cast(beta, step.dtype), step)))
        mean, square = moments
        return ops.divide(mean, ops.add(ops.sqrt(square), self.epsilon))


def _is_one_tensorflow_replica() -> bool:
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync == 1


@keras.saving.register_keras_serializable(package="resnet_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Grows the learning rate linearly to `peak` over `steps`, then follows `after` from its start.

    The first step takes `start` (Goyal et al. 2017, section 2.2) or, if that is 0, peak / steps.
    With `held`, the warm-up stays at that rate instead (He et al. 2016, section 4.2, of
    ResNet-110). Of a training in phases, with an optimizer each, `first` is the step that is the
    optimizer's first one.
    """

    def __init__(
        self,
        peak: float,
        steps: int,
        after: keras.optimizers.schedules.LearningRateSchedule,
        held: float | None = None,
        first: int = 0,
        start: float = 0.0,
    ) -> None:
        self.peak = peak
        self.steps = steps
        self.after = after
        self.held = held
        self.first = first
        self.start = start

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32") + self.first
        rising = self.peak * (step + 1.0) / max(self.steps, 1)
        if self.start:
            rising = self.start + (self.peak - self.start) * step / max(self.steps, 1)
        if self.held is not None:
            rising = ops.full_like(step, self.held)
        following = ops.cast(self.after(ops.maximum(step - self.steps, 0.0)), "float32")
        return ops.where(step < self.steps, rising, following)

    def get_config(self) -> dict[str, Any]:
        after = keras.saving.serialize_keras_object(self.after)
        return {
            "peak": self.peak,
            "steps": self.steps,
            "after": after,
            "held": self.held,
            "first": self.first,
            "start": self.start,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WarmUp":
        after = keras.saving.deserialize_keras_object(config["after"])
        return cls(**{**config, "after": after})


def schedule(
    recipe: Recipe, steps_per_epoch: int, first_epoch: int = 0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The recipe's learning rate as a function of the updates of the weights.

    With `accumulate`, these are fewer than the steps.

    Args:
        recipe: whose.
        steps_per_epoch: of the training.
        first_epoch: that the optimizer comes to do, counted from 0; its own count starts there.
    """
    per_epoch = steps_per_epoch / recipe.accumulate
    total = max(round(recipe.epochs * per_epoch), 1)
    warmup = min(round(recipe.warmup_epochs * per_epoch), total)
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
    held = recipe.warmup_rate if recipe.warmup == "constant" else None
    first = round(first_epoch * per_epoch)
    return WarmUp(recipe.learning_rate, warmup, after, held, first, recipe.warmup_start)


def optimizer(
    recipe: Recipe,
    steps_per_epoch: int,
    loss_scaling: bool = False,
    *,
    first_epoch: int = 0,
    rate_factors: Sequence[float] = (),
) -> keras.optimizers.Optimizer:
    """The recipe's optimizer, its learning rate a schedule.

    Args:
        recipe: whose.
        steps_per_epoch: of the training.
        loss_scaling: whether to scale the loss, as float16 needs. Keras's `compile` would do it
            too, but a model that is loaded again under another global policy would lose it.
        first_epoch: see `schedule`.
        rate_factors: by which each trainable variable's learning rate is multiplied.
    """
    shared = {
        "learning_rate": schedule(recipe, steps_per_epoch, first_epoch),
        "rate_factors": rate_factors,
        "l2": recipe.l2,
        "l2_on_bn": recipe.l2_on_bn,
        "kernel_decay": recipe.weight_decay,
        "global_clipnorm": recipe.clip_norm,
        "gradient_accumulation_steps": recipe.accumulate if recipe.accumulate > 1 else None,
        "use_ema": recipe.ema > 0,
        "ema_momentum": recipe.ema or 0.99,
    }
    if recipe.optimizer == "lamb":
        made = LAMB(**shared)
    else:
        made = SGD(
            momentum=recipe.momentum, momentum_correction=recipe.momentum_correction, **shared
        )
    return keras.optimizers.LossScaleOptimizer(made) if loss_scaling else made
