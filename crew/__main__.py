"""`python -m crew` runs the `crew` command."""

from crew.cli import main

if __name__ == "__main__":
    main()
