"""Measurements that the documents quote; each writes JSON with hardware, versions and command."""
