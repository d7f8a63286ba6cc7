"""What a run learnt, packed for serving: network, decoder's choices, PCA, classifier, in one folder or tar.

Runs on the driver where one is made, and wherever pictures are answered. May touch stores, through paths, and OpenVINO;
needs no Spark, Java, Keras or configuration, and runs nothing that a bundle holds. ``sealing`` writes and checks the
files, ``networks`` sees, ``classifying`` and ``chaining`` compute, ``opened`` puts them together, ``index`` finds
neighbours, ``looking`` explains.
"""

from mirabelle.bundle.answers import Answer, BundleInfo, Likely, Neighbour, Outputs, Prediction, Rejected
from mirabelle.bundle.opened import Bundle, available_cores, open_bundle

__all__ = [
    "Answer",
    "Bundle",
    "BundleInfo",
    "Likely",
    "Neighbour",
    "Outputs",
    "Prediction",
    "Rejected",
    "available_cores",
    "open_bundle",
]
