"""Tests of the engines package, one module for each of its modules."""
