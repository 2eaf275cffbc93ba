"""The life of a sweep: launched, resumed, tidied, shown on the terminal; and one trial alone."""
