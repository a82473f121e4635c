"""Tests of the tools: `python -m unittest discover --start-directory tools/tests --top-level-directory tools`."""
