"""Everything that touches FFmpeg (through PyAV): sources, encoder, outputs, pictures, the probe."""
