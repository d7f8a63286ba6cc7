"""``python -m mirabelle``: the command."""

from mirabelle.cli import entry

if __name__ == "__main__":
    entry()
