"""The lesson: rounds over the pictures, batches made beside it, the best round chosen. [Keras]

What a round does follows from the settings and its number alone, so a lesson that was killed ends as one that was not.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mirabelle.config.finetuning import Finetune
from mirabelle.errors import ConfigError
from mirabelle.finetune.augmenting import augmented
from mirabelle.finetune.keeping import Arrays, Kept
from mirabelle.finetune.pictures import Rows
from mirabelle.network import gpu
from mirabelle.network.embedding import Normalisation
from mirabelle.network.engines import normalise

if TYPE_CHECKING:
    import keras

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BATCHES_AHEAD = 3
PLATEAU_EPOCHS = 3
# As scikit-learn has it: no probability is nothing.
LEAST = 1e-15


@dataclass(frozen=True)
class Epoch:
    """A round.

    Attributes:
        epoch: its number, from 1.
        loss, accuracy: on the pictures learnt from, as they were met, views and what is left out included.
        val_loss, val_accuracy: on those set aside, after it; None: there are none.
        learning_rate: of it.
        seconds: it took, of which ``waiting_seconds`` for pictures.
        images: that were met.
    """

    epoch: int
    loss: float
    accuracy: float
    val_loss: float | None
    val_accuracy: float | None
    learning_rate: float
    seconds: float
    waiting_seconds: float
    images: int


@dataclass
class Lesson:
    """What is taught with.

    Attributes:
        settings: of the lesson.
        rows: uint8 pictures; or float32, what the part of a network that stays as it is made of them.
        classes: int64, of each row; those that are not taught with count for nothing.
        train, validation: positions in ``rows``.
        number: of classes.
        normalisation: done to pictures first; None: rows go in as they are.
        ground: RGB beyond a view's edge.
        told: called after each batch.
    """

    settings: Finetune
    rows: Rows
    classes: Ints
    train: Ints
    validation: Ints
    number: int
    normalisation: Normalisation | None
    ground: tuple[int, int, int]
    told: Callable[[str], None] = field(default=lambda _: None)

    @property
    def steps(self) -> int:
        """Batches a round."""
        return self.settings.steps_per_epoch or math.ceil(len(self.train) / self.settings.batch_images)

    def batch(self, epoch: int, step: int) -> tuple[npt.NDArray[np.float32], Ints]:
        """A batch to learn from: normalised, and its classes. Rounds and batches are numbered from 0."""
        positions, passes = self._chosen(epoch, step)
        rows = self.rows[positions]
        if self.settings.augment.enabled:
            for i, (position, number) in enumerate(zip(positions, passes, strict=True)):
                random = np.random.default_rng((self.settings.seed, int(number), int(position)))
                rows[i] = augmented(rows[i], self.settings.augment, random, self.ground)
        return self._ready(rows), self.classes[positions]

    def _chosen(self, epoch: int, step: int) -> tuple[Ints, Ints]:
        """Positions of a batch, and the how many-th pass over the pictures each is of.

        With a number of batches of one's own passes do not end where rounds do; else every round is one.
        """
        size, many = self.settings.batch_images, len(self.train)
        if self.settings.steps_per_epoch is None:
            first, last = step * size, min((step + 1) * size, many)
            numbers = np.arange(first, last) + epoch * many
        else:
            numbers = np.arange(size) + (epoch * self.steps + step) * size
        passes = numbers // many
        orders = {int(one): self._order(int(one)) for one in np.unique(passes)}
        places = [orders[int(one)][int(number % many)] for one, number in zip(passes, numbers, strict=True)]
        return self.train[np.array(places, np.int64)], passes

    def _order(self, number: int) -> Ints:
        return np.random.default_rng((self.settings.seed, number)).permutation(len(self.train))

    def _ready(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return normalise(rows, self.normalisation) if self.normalisation else rows

    def batches(self, epoch: int) -> Iterator[tuple[npt.NDArray[np.float32], Ints, float]]:
        """A round's batches, made ahead by threads, each with the seconds that it was waited for."""
        yield from _ahead(lambda step: self.batch(epoch, step), self.steps)

    def answers(self, model: keras.Model, positions: Ints) -> Iterator[npt.NDArray[np.float32]]:
        """What a model gives for some rows, by batches."""
        size = self.settings.batch_images

        def make(number: int) -> tuple[npt.NDArray[np.float32]]:
            return (self._ready(self.rows[positions[number * size : (number + 1) * size]]),)

        for rows, _ in _ahead(make, math.ceil(len(positions) / size)):
            yield np.asarray(model.predict_on_batch(rows))

    def probabilities(self, model: keras.Model, positions: Ints) -> Floats:
        """What a taught model says of some rows: float64 (n, number of classes)."""
        found = [np.asarray(answer, np.float64) for answer in self.answers(model, positions)]
        said = np.concatenate([*found, np.zeros((0, 1 if self.number == 2 else self.number))])
        return np.hstack([1 - said, said]) if self.number == 2 else said


def _ahead(make: Callable[[int], tuple[Any, ...]], number: int) -> Iterator[tuple[Any, ...]]:
    """What ``make`` gives for 0, 1, ..., by threads, a few ahead, and the seconds that each was waited for."""
    waiting: deque[Future[tuple[Any, ...]]] = deque()
    with ThreadPoolExecutor(2, "mirabelle-batches") as pool:
        try:
            for step in range(min(BATCHES_AHEAD, number)):
                waiting.append(pool.submit(make, step))
            for step in range(number):
                began = time.perf_counter()
                made = waiting.popleft().result()
                if step + BATCHES_AHEAD < number:
                    waiting.append(pool.submit(make, step + BATCHES_AHEAD))
                yield (*made, time.perf_counter() - began)
        finally:
            for future in waiting:
                future.cancel()


def teach(model: keras.Model, lesson: Lesson, kept: Kept) -> tuple[list[Epoch], int]:
    """Teach to the end, from the first round or from where an earlier attempt got to.

    Args:
        model: built, not compiled; afterwards it has the best round's weights.
        lesson: what it is taught with.
        kept: where rounds are kept.

    Returns:
        All rounds, and the number of the best, from 1: that of the least loss on the pictures set aside, and where
        there are none the last.

    Raises:
        ConfigError: the optimizer does not take its parameters.
    """
    settings = lesson.settings
    optimizer = compile_for(model, settings, lesson.number)
    # What stays as it is need not be kept.
    tensors = [tensor for tensor in model.weights if not _is_frozen(model, tensor)]
    found = kept.get()
    history, best, chosen = [], 0, [_copied(tensor) for tensor in tensors]
    if found:
        rounds, best, now, chosen = found
        history = [Epoch(**one) for one in rounds]
        _set(tensors, now[: len(tensors)])
        _set(optimizer.variables, now[len(tensors) :])
    try:
        while not _is_over(history, best, settings):
            history.append(one_round(model, lesson, optimizer, history))
            best = _best(history)
            is_best = best == len(history)
            now = [_copied(tensor) for tensor in tensors]
            chosen = now if is_best else chosen
            state = [*now, *map(_copied, optimizer.variables)]
            kept.put([asdict(one) for one in history], best, state, chosen if is_best else None)
    finally:
        # Whoever ended it, too: the best so far is what it came to.
        _set(tensors, chosen)
    return history, best


def one_round(model: keras.Model, lesson: Lesson, optimizer: Any, history: list[Epoch]) -> Epoch:
    """Teach the round that comes behind some others; it follows from them, the settings and the model alone."""
    settings, number = lesson.settings, len(history)
    first = history[0].learning_rate if history else float(np.asarray(optimizer.learning_rate))
    rate = first * _factor(history, settings)
    optimizer.learning_rate = rate
    _reseed(model, settings.seed, number)
    weights = _class_weights(lesson) if settings.class_weights else None
    began, waited, images = time.perf_counter(), 0.0, 0
    loss = accuracy = 0.0
    for step, (rows, classes, seconds) in enumerate(lesson.batches(number)):
        told = model.train_on_batch(rows, classes, class_weight=weights, return_dict=True)
        waited, images = waited + seconds, images + len(rows)
        # What it tells is of the batch alone.
        loss += (told["loss"] - loss) * len(rows) / images
        accuracy += (told["accuracy"] - accuracy) * len(rows) / images
        left = (time.perf_counter() - began) / (step + 1) * (lesson.steps - step - 1)
        lesson.told(
            f"epoch {number + 1} of {settings.epochs}, {step + 1:,} of {lesson.steps:,} batches: loss {loss:.4f},"
            f" accuracy {accuracy:.4f}; {_seconds(left)} of the epoch left"
        )
    took = time.perf_counter() - began
    val_loss = val_accuracy = None
    if len(lesson.validation):
        said = lesson.probabilities(model, lesson.validation)
        val_loss, val_accuracy = judged(said, lesson.classes[lesson.validation])
    return Epoch(
        number + 1, float(loss), float(accuracy), val_loss, val_accuracy, rate, round(took, 3), round(waited, 3), images
    )


def judged(probabilities: Floats, classes: Ints) -> tuple[float, float]:
    """Log-loss and accuracy."""
    own = np.clip(probabilities[np.arange(len(classes)), classes], LEAST, 1)
    return float(-np.log(own).mean()), float((probabilities.argmax(axis=1) == classes).mean())


def compile_for(model: keras.Model, settings: Finetune, classes: int) -> Any:
    """Compile a model for a lesson; its optimizer, with numbers of its own for each tensor that learns.

    Raises:
        ConfigError: there is no such optimizer, or it does not take its parameters.
    """
    from mirabelle.network.backbones import import_keras

    keras = import_keras()
    kind = getattr(keras.optimizers, settings.optimizer, None)
    if not (isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)):
        raise ConfigError(
            f"finetune.optimizer {settings.optimizer!r} is none of keras.optimizers: RMSprop, Adam, SGD, ..."
        )
    try:
        optimizer = kind(**settings.optimizer_params)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"finetune.optimizer_params: {settings.optimizer} refuses them: {error}") from error
    loss = "binary_crossentropy" if classes == 2 else "sparse_categorical_crossentropy"
    # XLA's convolutions are slower on CPUs: three times, of the small network.
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile="auto" if gpu.is_seen(keras) else False)
    optimizer.build(model.trainable_variables)
    return optimizer


def _is_frozen(model: keras.Model, tensor: Any) -> bool:
    """Whether a tensor stays as it is: of a layer that does not learn."""
    return not any(tensor is one for layer in model.layers if layer.trainable for one in layer.weights)


def _copied(variable: Any) -> npt.NDArray[Any]:
    """A tensor's numbers as they are now; bfloat16 has no place in NumPy's files."""
    found = np.array(variable)
    return found if found.dtype.kind in "fiub" else found.astype(np.float32)


def _set(variables: Any, values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _reseed(model: keras.Model, seed: int, number: int) -> None:
    """What is left out in a round follows from its number, however many rounds this process has seen."""
    for place, layer in enumerate(model.layers):
        if generator := getattr(layer, "seed_generator", None):
            generator.state.assign(np.random.default_rng((seed, number, place)).integers(0, 2**31, 2, np.uint32))


def _factor(history: list[Epoch], settings: Finetune) -> float:
    """What the first round's learning rate is multiplied by in the next one."""
    if settings.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * len(history) / settings.epochs))
    factor, best, stale = 1.0, math.inf, 0
    if settings.schedule == "plateau":
        for one in history:
            loss = one.loss if one.val_loss is None else one.val_loss
            best, stale = (loss, 0) if loss < best else (best, stale + 1)
            if stale >= PLATEAU_EPOCHS:
                factor, stale = factor / 2, 0
    return factor


def _best(history: list[Epoch]) -> int:
    losses = [one.val_loss for one in history]
    known = [loss for loss in losses if loss is not None]
    return len(history) if len(known) < len(losses) else 1 + losses.index(min(known))


def _is_over(history: list[Epoch], best: int, settings: Finetune) -> bool:
    stale = len(history) - best
    return len(history) >= settings.epochs or (settings.patience is not None and stale >= settings.patience)


def _class_weights(lesson: Lesson) -> dict[int, float]:
    numbers = np.bincount(lesson.classes[lesson.train], minlength=lesson.number)
    return {i: len(lesson.train) / (lesson.number * number) for i, number in enumerate(numbers.tolist()) if number}


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
