"""The ``gridpose`` command: one module for each subcommand, thin skins over the Python API."""

from gridpose.pipeline.cli.app import app, main

__all__ = ["app", "main"]
