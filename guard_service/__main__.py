"""`python -m guard_service` is the command `guard-service`."""

from guard_service.cli import main

if __name__ == "__main__":
    main()
