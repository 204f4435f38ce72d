"""`python -m unetseg.cli`."""

from unetseg.cli import main

if __name__ == "__main__":
    main()
