"""Generated code of the messages Envoy and its external processors exchange."""
