"""`python -m chat_gateway` is the command `chat-gateway`."""

from chat_gateway.cli import main

if __name__ == "__main__":
    main()
