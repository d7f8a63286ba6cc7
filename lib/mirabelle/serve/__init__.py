"""The server: a bundle behind HTTP, for people (a page), programs (``/v1``) and inference clients (``/v2``).

Runs on a machine of its own, neither driver nor executor. Touches the network it listens on, standard output (its log,
one JSON object a line), and through ``storage`` the place that its bundle is kept in. Needs the extra ``serve``, and no
Spark, Java, Keras or TensorFlow. It fetches no address that a request names.

The road of a request: ``connection`` (a head that comes in time) -> ``front`` (its id, who asks, how often, the log)
-> ``api``, ``inference`` or ``pages`` -> ``body`` and ``forms`` (bytes into pictures, within limits) -> ``work``
(decoding in threads) -> ``batching`` (pictures of several requests at a time into the network) -> an answer, or a
problem document (``problems``). ``current`` keeps the bundle that answers, and puts a new one in its place.
"""

from mirabelle.serve.running import serve
from mirabelle.serve.settings import ServeSettings, explain_settings, load_settings

__all__ = ["ServeSettings", "explain_settings", "load_settings", "serve"]
