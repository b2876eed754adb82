"""``python -m gridpose`` is the ``gridpose`` command."""

from gridpose.pipeline.cli import main

if __name__ == "__main__":
    main()
