"""Every architecture, built through `models.create`."""
