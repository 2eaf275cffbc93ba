"""What a sweep's record says: tables of trials and epochs, what mattered, by how much the best one won. Pure functions."""
