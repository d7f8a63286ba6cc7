"""What a cluster is sent: packages, the network, the job.

Runs where people type, the machine of a driver in client mode. Touches the disk, the package registry, and through
``storage`` the buckets that things are put into; knows no Spark.
"""
