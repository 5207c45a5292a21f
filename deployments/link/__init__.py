"""The frame link: pictures from streams to a Detector replica and detections back, past Serve's request path."""
