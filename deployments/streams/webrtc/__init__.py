"""Viewers who watch a stream by WebRTC: signalling as WHEP has it, the media that the stream encodes anyway."""
