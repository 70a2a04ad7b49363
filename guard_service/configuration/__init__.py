"""How a service of this project takes settings, and how they are documented; knows none of them."""
