"""The only importer of Ray: connects to a cluster and has Ray Tune carry out what the conductor decides."""
