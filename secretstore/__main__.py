"""`python -m secretstore` is `secretstore`."""

from secretstore.cli import main

if __name__ == "__main__":
    main()
