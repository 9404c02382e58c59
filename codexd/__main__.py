"""`python -m codexd` is the same program as the `codexd` script."""

from codexd.cli.main import main

if __name__ == "__main__":
    main()
