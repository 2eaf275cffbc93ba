"""What architectures are built of: blocks of an affine map, a normalization and an activation, and residual blocks."""
