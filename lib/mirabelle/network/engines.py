"""What runs a batch: OpenVINO on CPUs, Keras as the reference and on GPUs. [the engine, lazily]

``convert`` runs on the driver, once; ``open_engine`` on executors, once in each worker process. A network travels
between them as ``Files``: names and bytes, ready to broadcast.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mirabelle.network import gpu
from mirabelle.network.embedding import EngineName, Normalisation, Precision
from mirabelle.network.strides import move_strides_up

if TYPE_CHECKING:
    import keras

Pixels = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float32]
Files = dict[str, bytes]

# Raised when the form of converted networks changes, so that cached ones are made anew.
CONVERSION_VERSION = 1


class Engine(Protocol):
    """A compiled network.

    Attributes:
        on_gpu: it likes large batches, and all of one shape: for each other one it would be compiled anew.
    """

    on_gpu: bool

    def embed(self, pixels: Pixels) -> Features:
        """uint8 RGB (n, side, side, 3) into float32 (n, width)."""


def convert(engine: EngineName, model: keras.Model, normalisation: Normalisation) -> Files:
    """Turn a headless Keras model into what a worker opens.

    Args:
        engine: ``openvino`` gives IR with the normalisation inside the graph, so that it takes uint8; ``keras`` gives
            the model's own archive.
        model: input float32 (n, side, side, 3), output (n, width). Not changed.
        normalisation: what the network wants done to RGB values first.
    """
    with tempfile.TemporaryDirectory(prefix="mirabelle-") as folder:
        if engine == "keras":
            model.save(Path(folder) / "model.keras")
        else:
            _convert_openvino(model, normalisation, Path(folder) / "model.xml")
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def open_engine(
    engine: EngineName, files: Files | Path, normalisation: Normalisation, precision: Precision, threads: int
) -> Engine:
    """Compile a network for this machine; takes tenths of a second, so keep what it returns.

    Given a folder with the files, OpenVINO maps the weights, and processes of a machine have them in memory once.
    """
    if engine == "keras":
        return KerasEngine(files, normalisation, threads)
    return OpenVinoEngine(compile_files(files, precision, threads))


class OpenVinoEngine:
    """One inference request of a compiled model; not for use by several threads at once."""

    on_gpu = False

    def __init__(self, compiled: Any) -> None:
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._request = compiled.create_infer_request()
        self._output = compiled.output(0)

    def embed(self, pixels: Pixels) -> Features:
        """See ``Engine``."""
        self._request.infer([pixels], share_inputs=True)
        # A copy: the request's own buffer is overwritten by the next batch.
        return np.array(self._request.get_tensor(self._output).data, dtype=np.float32)


def compile_files(
    files: Files | Path,
    precision: Precision,
    threads: int,
    change: Callable[[Any, Any], Any] | None = None,
    streams: int = 1,
) -> Any:
    """A converted network compiled for this machine by OpenVINO.

    Args:
        files: as ``convert`` made them, or the folder that they are in.
        precision: of the arithmetic.
        threads: it may use.
        change: gives another model to compile, from the library and the network's own.
        streams: requests that run at the same time, the threads shared out to them.
    """
    openvino = _openvino()
    core = openvino.Core()
    model = open_model(files, core)
    if precision == "int8":
        # In the others OpenVINO does it.
        move_strides_up(model)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads,
        # Of int8 too this is the rest: what was not quantised is the same on every CPU in float32.
        "INFERENCE_PRECISION_HINT": openvino.Type.bf16 if precision == "bf16" else openvino.Type.f32,
        # Each worker is one process on one core: let the system place it, as two workers that both pin
        # themselves to the first core would halve the speed.
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(change(openvino, model) if change else model, "CPU", settings)


def open_model(files: Files | Path, core: Any = None) -> Any:
    """A converted network as OpenVINO's own model, not compiled; of a folder, its weights are mapped."""
    openvino = _openvino()
    if isinstance(files, Path):
        return (core or openvino.Core()).read_model(files / "model.xml")
    weights = np.frombuffer(files["model.bin"], dtype=np.uint8)
    return (core or openvino.Core()).read_model(files["model.xml"], openvino.Tensor(weights))


class KerasEngine:
    """The model run by Keras itself, on a GPU where it sees one; on CPUs slow, and what the others are judged against.

    By whichever of Keras's backends is set (``KERAS_BACKEND``). Pixels go to it as bytes, a quarter of what float32
    takes, and are normalised there, within the compiled network.
    """

    def __init__(self, files: Files | Path, normalisation: Normalisation, threads: int) -> None:
        keras = _keras(threads)
        with tempfile.TemporaryDirectory(prefix="mirabelle-") as folder:
            path = (files if isinstance(files, Path) else Path(folder)) / "model.keras"
            if not isinstance(files, Path):
                path.write_bytes(files["model.keras"])
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        self.on_gpu = gpu.is_seen(keras)
        self._run = _compiled(keras, _on_pixels(keras, model, normalisation))

    def embed(self, pixels: Pixels) -> Features:
        """See ``Engine``."""
        return np.asarray(self._run(pixels), dtype=np.float32)


def _on_pixels(keras: Any, model: Any, normalisation: Normalisation) -> Any:
    """The model with ``normalise`` before it: uint8 in, float32 out."""
    pixels = keras.Input(model.inputs[0].shape[1:], dtype="uint8")
    values = keras.ops.cast(pixels, "float32")
    if normalisation.reverse_channels:
        values = keras.ops.flip(values, axis=-1)
    mean, std = np.array(normalisation.mean, np.float32), np.array(normalisation.std, np.float32)
    values = (values / normalisation.scale - mean) / std
    return keras.Model(pixels, keras.ops.cast(model(values), "float32"))


def _compiled(keras: Any, model: Any) -> Callable[[Pixels], Any]:
    """What runs a batch; what it returns NumPy can read."""
    if keras.backend.backend() != "jax":
        run: Callable[[Pixels], Any] = model.predict_on_batch
        return run
    import jax

    # Keras would hand the weights over at each call and take them back: one call that fails, for want of memory, would
    # lose them.
    weights = [[v.value for v in kind] for kind in (model.trainable_variables, model.non_trainable_variables)]
    step = jax.jit(lambda weights, pixels: model.stateless_call(*weights, pixels, training=False)[0])
    return lambda pixels: step(weights, pixels)


def normalise(pixels: Pixels, normalisation: Normalisation) -> npt.NDArray[np.float32]:
    """``(x / scale - mean) / std`` in float32, channels reversed first where asked; a new array."""
    values = pixels[..., ::-1] if normalisation.reverse_channels else pixels
    mean, std = np.array(normalisation.mean, np.float32), np.array(normalisation.std, np.float32)
    return np.asarray((values.astype(np.float32) / np.float32(normalisation.scale) - mean) / std)


def native_precisions() -> list[Precision]:
    """What this machine's CPU computes natively: always float32; bf16 with AMX or AVX512-BF16, as OpenVINO sees it."""
    capabilities = _openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["float32", "bf16"] if "BF16" in capabilities else ["float32"]


def has_fast_int8() -> bool:
    """Whether this machine's CPU multiplies bytes natively: VNNI or AMX, on Arm i8mm; unknown counts as yes."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return True
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})


def cpu_name() -> str:
    """The CPU's own name, as OpenVINO tells it."""
    return str(_openvino().Core().get_property("CPU", "FULL_DEVICE_NAME"))


def _convert_openvino(model: keras.Model, normalisation: Normalisation, target: Path) -> None:
    import warnings

    openvino = _openvino()
    from openvino.preprocess import PrePostProcessor

    with warnings.catch_warnings():
        # Keras remarks that the converter calls it with a tuple; the result is the same.
        warnings.simplefilter("ignore")
        converted = openvino.convert_model(model)
    _, height, width, channels = model.inputs[0].shape
    converted.reshape([-1, height, width, channels])
    processor = PrePostProcessor(converted)
    processor.input().tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    processor.input().model().set_layout(openvino.Layout("NHWC"))
    steps = processor.input().preprocess().convert_element_type(openvino.Type.f32)
    if normalisation.reverse_channels:
        steps.reverse_channels()
    if normalisation.scale != 1:
        steps.scale(normalisation.scale)
    if any(normalisation.mean):
        steps.mean(list(normalisation.mean))
    if set(normalisation.std) != {1.0}:
        steps.scale(list(normalisation.std))
    openvino.save_model(processor.build(), target, compress_to_fp16=False)


def _openvino() -> Any:
    """OpenVINO without its usage reports, which would call out from driver and executors."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _keras(threads: int) -> Any:
    """Keras with its backend held to ``threads``; the backend reads these when it is first imported."""
    gpu.set_up(exact=True)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", str(threads))
    os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
    import keras

    return keras
