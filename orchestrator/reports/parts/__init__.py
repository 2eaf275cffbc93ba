"""What several figures compute or draw alike."""
