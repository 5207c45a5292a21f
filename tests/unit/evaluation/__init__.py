"""Tests of engines.evaluation."""
