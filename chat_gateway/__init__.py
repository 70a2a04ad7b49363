"""A drop-in chat endpoint that judges what goes into a language model and what comes out."""
