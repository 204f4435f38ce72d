"""unetseg: a folder of images and masks in, a trained U-Net out; a scan in, a mask out."""

__version__ = "0.1.0"
