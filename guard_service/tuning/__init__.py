"""Fine-tune a guard on labelled conversations, in the prompt format and grammar that serve."""
