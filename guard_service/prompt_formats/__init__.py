"""Prompt formats of the Llama Guard family: one file per version, pure functions."""
