"""The model checker of the replication protocol: it runs the product's own rules (`grafctl/store/rules.py`)."""
