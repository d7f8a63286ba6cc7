"""What a listing says of itself: how its columns are filled, which pictures belong together, which are alike.

Runs on the driver. Touches the scratch folder of a DuckDB database, which holds what grows with the images; what comes
out are small pandas tables, each with a sentence on what it means for learning. Knows no Spark: what is found out of
the pictures themselves comes in as files (``spark.look``).
"""

from mirabelle.exploration.alike import Alike, find_alike
from mirabelle.exploration.tables import Explored, Table, Wanted, explore, see

__all__ = ["Alike", "Explored", "Table", "Wanted", "explore", "find_alike", "see"]
