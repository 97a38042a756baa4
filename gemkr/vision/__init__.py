"""From pictures to features: detection, encoding and the region store."""
