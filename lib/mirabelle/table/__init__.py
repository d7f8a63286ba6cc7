"""What lies under an output root: the feature table and its chunks, the current view, manifests and the lease.

Runs on the driver alone. May touch the store of the output and a scratch folder, which DuckDB works in; knows no Spark.
Nothing is handed out here: import from the modules.
"""
