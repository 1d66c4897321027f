"""`python -m genets`: the command line."""

from genets.cli import main

if __name__ == "__main__":
    main()
