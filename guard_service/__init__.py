"""A gRPC service that answers one question: is the last turn of this conversation safe?"""
