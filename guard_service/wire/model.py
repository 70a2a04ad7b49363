"""Names of weights on the wire."""

from guard_service.moderation import ModelInfo
from guard_service.v1 import guard_pb2


def model_to_wire(model: ModelInfo) -> guard_pb2.Model:
    """The model's names as the contract carries them."""
    return guard_pb2.Model(id=model.id, revision=model.revision, prompt_format=model.prompt_format)


def model_from_wire(model: guard_pb2.Model) -> ModelInfo:
    """The model's names as the domain knows them."""
    return ModelInfo(model.id, model.revision, model.prompt_format)
