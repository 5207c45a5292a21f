"""Inference engines: a batch of uint8 frames in, detections out. Knows neither Ray nor video."""

try:
    import cv2  # noqa: F401 - only to say at once, and in one line, what is missing
except ImportError as error:
    raise ImportError(f"OpenCV can't be loaded ({error}): apt-get install libgl1 libglib2.0-0") from None
