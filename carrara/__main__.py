"""`python -m carrara` is the command line."""

from carrara.cli import main

if __name__ == "__main__":
    main()
