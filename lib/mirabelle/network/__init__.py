"""Networks: which there are, their weights, the engines that run them, and what makes two embeddings comparable.

``engines`` and ``embedding`` run on driver and executors and touch nothing; ``backbones``, ``weights`` and
``preparing`` run on the driver alone, and touch Keras, the cache folder and what weights are downloaded from. Nothing
is handed out here: import from the modules, since a worker has no Keras.
"""
