"""Networks that learn from the pictures themselves.

Driver only; touches the stores that pictures are in, this machine's disk, and Keras, which uses a GPU where there is
one. Which pictures are learnt from is decided elsewhere, by the one function that decides it for Spark ML, too.
"""

from mirabelle.finetune.augmenting import augmented
from mirabelle.finetune.building import Taught, build, start_of
from mirabelle.finetune.keeping import Kept
from mirabelle.finetune.looking import attention
from mirabelle.finetune.pictures import Pictures, Rows, read_pictures
from mirabelle.finetune.teaching import Epoch, Lesson, teach

__all__ = [
    "Epoch",
    "Kept",
    "Lesson",
    "Pictures",
    "Rows",
    "Taught",
    "attention",
    "augmented",
    "build",
    "read_pictures",
    "start_of",
    "teach",
]
