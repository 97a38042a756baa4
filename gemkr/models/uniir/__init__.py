"""UniIR's encoders of texts and pictures: score fusion and feature fusion over CLIP and BLIP."""
